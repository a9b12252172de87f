# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # All explorers, on any model
#
# Pick one of the course's models, or choose "a folder of mine" and type the path of a folder in the official layout: `config.json` and `*.safetensors`, with `tokenizer.json` if texts are to be read. Models up to 0.2 billion parameters are opened. The explorer of a tab is made when you open the tab and ends when you leave it, its training included. The Balance tab trains a model of the same shape from new weights, without its MTP module. The last four tabs are about kernels and show the same on every model.
#
# `make explorer` serves this notebook as a page of its own.

# %%
import os
from minimoe_course import data_path, setup, show
from minimoe_widgets.explorers import Explorers

setup(seed=0)

# %%
explorers = Explorers(data_path("nano").parent)
explorers

# %% [markdown]
# ## What each tab opens with
#
# | tab | the question | chapter |
# |---|---|---|
# | Routing | Which experts serve which token, and what does the selection bias change? | [00](00_start.ipynb), [03](03_moe.ipynb) |
# | Compression | What does the cache cost, where do heads look, what does the latent hold? | [02](02_mla.ipynb) |
# | Balance | What happens to the experts while a model trains, with and without balancing? | [04](04_balancing.ipynb) |
# | Speculation | Which drafted tokens are kept, and is it quicker? | [05](05_mtp.ipynb) |
# | Context | How far can the model read, and what does YaRN change? | [06](06_context.ipynb) |
# | Rollout | What did reinforcement learning do to the answers? (The run of the model's folder, or R1-Zero's.) | [10](10_r1_zero.ipynb) |
# | Refusal | How many steps of fine-tuning remove a refusal, and what does a guard catch? (On the model if it refuses, or on R1.) | [13](13_safety.ipynb) |
# | FP8 | What do tiles and blocks keep of the model's weights in 8 bits, and of a long sum? | [17](17_fp8.ipynb) |
# | Grouped GEMM | What does an uneven load cost the product of all experts? | [15](15_grouped_gemm.ipynb) |
# | Matmul | Which program reads which tiles, and how often does each byte cross the bus? | [14](14_first_kernels.ipynb) |
# | Decode | Which pages does each split read, and how are their softmaxes joined? | [16](16_mla_decode.ipynb) |
# | Timings | Which roof does a kernel meet, and what has been measured? | [14](14_first_kernels.ipynb), [16](16_mla_decode.ipynb) |
#
# For readers without a kernel, pictures of the first seven tabs on `nano` (Refusal: on R1). Those of the other five are in their chapters.

# %%
if "voila" not in os.environ.get("SERVER_SOFTWARE", ""):  # served as a page, the tabs above are all there is
    for tab in explorers.tabs[:7]:
        print(f"\n{tab}")
        show(explorers.static(tab))

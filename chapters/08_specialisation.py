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

# %% [markdown] tags=["promise"]
# # 08 What did the experts learn?
#
# By the end you can say what the experts of a trained model divide among themselves, how many bits of it, and how sure you are; and you have seen three ways to find a specialisation that is not there.
#
# 45 minutes. Prerequisites: chapters 03 and 04 (router, gates, bias, auxiliary loss); shares and averages. No statistics course is needed.
#
# You will be able to
# - measure in bits what an expert tells about a token, and hold it against what chance gives
# - choose the shuffle that tests your question, and count how many questions you asked
# - take an expert out of a running model, and say what its absence proves

# %% tags=["setup"]
import torch
import minimoe
from minimoe_course import *

setup(seed=0)

# %% [markdown] tags=["question"]
# ## 16 experts. Experts in what?
#
# In February 2025 newspapers explained DeepSeek's model with "specialised experts who step in only when needed": a team of 256, one for law, one for poetry. Mixtral's authors looked for such topics in their eight experts and saw no obvious pattern (arXiv 2401.04088, section 5). DeepSeek's paper shows a figure in which experts differ by domain (arXiv 2412.19437, figure 9).
#
# Who is right can be measured. Our small model has 16 routed experts in each of its two expert layers, and every token uses 4 of them. What do these 16 divide among themselves?

# %% [markdown] tags=["by-hand"]
# ## Two experts by hand
#
# Sixteen tokens, eight of them words and eight commas; each is served by one of two experts. Count who served what, and divide by the total: $p(e, j)$ for expert $e$ and label $j$. If experts did not care, a cell would be its row's share times its column's share, $p(e)\,p(j)$. The logarithm of the ratio says how far off the cell is; weighed with its share and added up, that is the **mutual information**:
#
# $$I = \sum_{e,j} p(e,j)\, \log_2 \frac{p(e,j)}{p(e)\, p(j)} \quad\text{bits}$$

# %% tags=["by-hand", "nbval-check-output"]
counts_EJ = torch.tensor([[6.0, 2.0], [2.0, 6.0]])  # expert 0: 6 words, 2 commas; expert 1: 2 words, 6 commas
p = counts_EJ / counts_EJ.sum()
alone = p.sum(1, keepdim=True) * p.sum(0)  # what every cell would be if experts did not care
print("shares:    ", p.flatten().tolist())
print("don't care:", alone.flatten().tolist())
print(f"information: {(p * (p / alone).log2()).sum():.3f} bits")

# %% [markdown]
# 0.189 bits. Had expert 0 served all words and expert 1 all commas, it would be 1 bit: the expert would tell the label. Had both served four of each, 0.

# %% [markdown] tags=["beat"]
# ## The table of a real layer
#
# Send 288 dictionary entries that the model has not seen through it, and note for every token its four experts. Label each token by its spelling: a **function word** ("the", "of", "to"), the start of another word, the rest of a word, punctuation. (Marks are the begin and end of an entry.)

# %%
from minimoe.inference.routing_record import record_routing
from minimoe.inference.specialisation import count_table, information_bits
from minimoe.inference.token_kinds import KINDS, token_kinds
from minimoe.tokenizer import Tokenizer
from minimoe.training import load_corpus
from minimoe.training.data import encode_documents

model = minimoe.load(data_path("nano"), dtype=torch.float32).requires_grad_(False)
tokenizer = Tokenizer.load(data_path("nano"))
entries = encode_documents(tokenizer, load_corpus(data_path("wordnet")).validation[::3])
record = record_routing(model, entries)
kind_M = token_kinds(tokenizer)[record.ids_M]
E, K, J = 16, 4, len(KINDS)
tokens_J = kind_M.bincount(minlength=J)
print(f"{len(kind_M):,} tokens:", ", ".join(f"{n:,} {k}" for k, n in zip(KINDS, tokens_J.tolist())))
print(f"to know the kind of a token takes {information_bits(torch.diag(tokens_J)):.2f} bits")

# %% [markdown]
# ### Exercise: mutual information
# ●●○○○ · 6 min · every claim of this chapter is this number, for some table.
#
# From a table of counts, experts in rows and labels in columns, compute $I$ in bits as above. Some cells are empty; $0 \log 0$ counts as 0.
# By hand: `[[6, 2], [2, 6]]` gives 0.1887.

# %% tags=["exercise"]
def mutual_information(counts_EJ):
    ...  # your code: return a number

mutual_information = check("08.mutual_information", mutual_information)

# %%
hints("08.mutual_information")

# %% [markdown]
# Each column below is one kind; its colours say which experts serve it, as shares of all choices that tokens of this kind made. If experts did not care, every column would look the same. How many bits does one of a token's experts, drawn evenly, tell about its kind? (If every kind had experts of its own, it would be all the bits that the kind has.)

# %%
tables = {layer: count_table(chosen_MK, kind_M, E, J) for layer, chosen_MK in record.chosen.items()}
guess("08.bits", "How many bits, in layer 2?", mutual_information(tables[2]), unit="bits", tolerance=0.25)

# %%
common = [1, 2, 3, 5]
show(
    heatmap(
        (tables[2] / tables[2].sum(0))[:, common], "Layer 2: every kind of token has experts that it prefers",
        "kind of token", "expert", xticks=[KINDS[j] for j in common], unit="share of the kind's choices",
    ),
    alt="A heat map of 16 experts by four kinds. Function words and punctuation share a few bright experts; word starts "
    "and word parts use others.",
)

# %%
for layer, table in tables.items():
    print(f"layer {layer}: {mutual_information(table):.3f} bits")

# %% [markdown]
# Not a team of specialists, and not nothing. Before believing it, ask what experts that flip coins would show.

# %% [markdown] tags=["beat"]
# ## What chance looks like
#
# Throw the router away. Let every token draw 4 of the 16 experts by lot, and count as before. What is the mutual information now?

# %%
from minimoe.inference.specialisation import chance_bits

by_lot_MK = torch.rand(len(kind_M), E).topk(K).indices
sizes = [100, 300, 1000, 3000, len(kind_M)]
random = [information_bits(count_table(by_lot_MK[:n], kind_M[:n], E, J)) for n in sizes]
real = [information_bits(count_table(record.chosen[2][:n], kind_M[:n], E, J)) for n in sizes]
formula = [chance_bits(n, K, E, len(kind_M[:n].unique())) for n in sizes]  # with the kinds that have occurred by then
show(
    lines(
        {"layer 2": (sizes, real), "by lot": (sizes, random), "formula": (sizes, formula)},
        "Experts drawn by lot carry information too, until there are many tokens",
        "tokens counted", "mutual information (bits)", grey=["formula"], log="xy",
    ),
    alt="The curve of the real layer stays nearly level; the curve of random experts falls in proportion to the number of "
    "tokens and follows the formula.",
)

# %% [markdown]
# By lot is never zero: each cell is a little off, and every deviation counts as information, whatever its sign. This **bias** of the estimate (a statistician's word; the router's bias is another) falls with the number of tokens $M$. For $J$ labels, to first order,
#
# $$\text{chance} \approx \frac{(E-K)\,(J-1)}{2\, M\, K \ln 2}\ \text{bits}$$
#
# With 100 tokens, of five kinds, the formula gives 0.09 bits, a fifth of what layer 2 shows; with 7,752, of seven, less than a 200th. A published heat map without its number of tokens cannot be read.
#
# ### Exercise: how many tokens?
# ●○○○○ · 4 min · before you measure, know whether you can see it.
#
# Return the number of tokens $M$ at which chance alone is down to `bits`: solve the formula for $M$.
# By hand: 2 experts, 1 chosen, 2 labels, 0.1 bits: $1 / (2 \cdot 0.693 \cdot 0.1) = 7.2$ tokens.

# %% tags=["exercise"]
def tokens_needed(bits, experts, chosen, labels):
    ...  # your code: return M

tokens_needed = check("08.tokens_needed", tokens_needed)
for name, shape in (("our layers", (16, 4)), ("DeepSeek-V3", (256, 8))):
    print(f"{name:11}: chance is below 0.001 bits from {tokens_needed(0.001, *shape, 7):,.0f} tokens on (7 kinds)")

# %%
hints("08.tokens_needed")

# %% [markdown]
# The formula knows coins. Real tokens come in runs and documents. So the comparison is made with the data themselves: keep the experts, **shuffle the labels**, count again, many times. That is a **permutation test**. The share of orders that do at least as well as the data, the data's own order among them, is the **p-value**: how often chance would do this.
#
# What may be shuffled is the question you ask. "Any label to any token" asks whether there is any dependence. Turning each entry's labels round by a random amount keeps neighbours together, so that runs are not mistaken for dependence. Shuffling among tokens at the same place asks what is left once the place is known: an entry begins with a mark, then a word part, whoever serves them.

# %%
from minimoe.inference.specialisation import information_test

for layer, chosen_MK in record.chosen.items():
    for how in ("free", "rotated", "within positions"):
        test = information_test(chosen_MK, kind_M, E, J, how, record.document_M, record.position_M, shuffles=99)
        print(
            f"layer {layer}, {how:16}: {test.observed_bits:.3f} bits; shuffled {test.null_bits.mean():.4f}, "
            f"at most {test.null_bits.max():.4f}; p = {test.p_value:.2f}"
        )

# %% [markdown]
# Even at the same place in the entry, labels and experts belong together: the experts follow the kind of token. 0.01 is the smallest p that 99 shuffles can give. Note how the shuffled bits rise as a shuffle keeps more of the structure; that part of the finding was structure.
#
# ### Exercise: the p-value
# ●●○○○ · 7 min · the line that decides what goes into a paper, and is wrong in many.
#
# One expert a token, and the simplest statistic: the number of **matches**, tokens whose expert has the same number as their label. `orders_PM` holds P orders: row by row, which token's label each token gets. With $m$ the matches of the data and $m_i$ those of order $i$, return $p = \dfrac{1 + \#\{i: m_i \ge m\}}{1 + P}$.
# By hand: experts `0 0 1`, labels `0 1 1`: 2 matches. Orders `012`, `102`, `210`, `120` match 2, 2, 1, 1 times: $p = (1 + 2)/(1 + 4) = 0.6$.

# %% tags=["exercise"]
def permutation_p(expert_M, label_M, orders_PM):
    ...  # your code: return p

permutation_p = check("08.permutation_p", permutation_p)

# %%
hints("08.permutation_p")

# %% [markdown] tags=["beat"]
# ## Break it: ask 32 times
#
# Here is a label with no meaning: toss a coin for every entry, heads or tails. Test on every expert of both layers whether it prefers heads: 32 tests, with p below 0.05 as the bar. The shuffle swaps whole entries, because the label belongs to entries. One coin may be an odd one, so take 20 coins. For how many of them will at least one of the 32 experts "specialise in heads"?

# %%
from minimoe.inference.specialisation import expert_information_bits, shuffled

generator = torch.Generator().manual_seed(0)
half = torch.arange(len(entries)) % 2  # as many heads as tails, in an order that the shuffles draw


def bits_of_experts(label_M):  # one number for each of the 32 experts
    of_label = label_M.bincount(minlength=2)
    return torch.cat([expert_information_bits(count_table(c, label_M, E, 2), of_label) for c in record.chosen.values()])


draws = [shuffled(half[record.document_M], "whole documents", generator, record.document_M) for _ in range(219)]
bits = torch.stack([bits_of_experts(label_M) for label_M in draws])
coins, null = bits[:20], bits[20:]
p_each = (1 + (null[None] >= coins[:, None]).sum(1)) / 200  # coin, expert
found = (p_each < 0.05).sum(1)

# %%
guess("08.coins", "For how many of the 20 coins does an expert specialise?", int((found > 0).sum()), tolerance=0.35)

# %%
print("experts below 0.05, coin by coin:", *found.tolist())
p_best = (1 + (null.max(1).values >= coins.max(1).values[:, None]).sum(1)) / 200
print(f"coins for which the best of 32 beats the best of 32 in the shuffles, p < 0.05: {(p_best < 0.05).sum()} of 20")

# %% [markdown]
# All of these specialists are false. With 32 tests at this bar about one and a half are expected for every coin, and more than half of the coins have one (32 independent tests: $1 - 0.95^{32} = 81\%$; these share their tokens, and 20 coins are few). A reader who is shown the best expert and not told of the other 31 will believe it. The last line asks the honest question: is the best of 32 better than the best of 32 usually is? One coin in twenty should pass by chance; here none did. The rule of thumb for k tests: hold each against 0.05 / k.

# %% [markdown] tags=["beat"]
# ## Kinds of token, or topics?
#
# Seven sources, twenty pieces each, none seen in training: dictionary entries, *Moby-Dick*, two novels by Jane Austen, presidents' speeches (that makes four books), the Python library of the machine that runs this, and sums. The model has read a dictionary only; the rest is foreign to it. First the picture that papers show: which share of a source's choices goes to each expert.

# %%
from minimoe.inference.domain_load import domain_load, held_out_bits
from minimoe_course.domains import domain_texts

texts = domain_texts(data_path("nano").parent, documents=20)
documents = [ids[:256] for group in texts.values() for ids in encode_documents(tokenizer, group)]
foreign = record_routing(model, documents)
domain_M = (torch.arange(len(documents)) // 20)[foreign.document_M]
load = domain_load(foreign.chosen[2], domain_M, foreign.document_M, E, len(texts))
show(
    heatmap(
        load.share_EJ, "Layer 2: sums and code load other experts than the four books, which look alike",
        "source", "expert", xticks=["entries", "Moby-D.", "Austen 1", "Austen 2", "speeches", "code", "sums"],
        unit="share of the source's choices",
    ),
    alt="A heat map of 16 experts by 7 sources. The columns of the four books look alike; code differs, and the column of "
    "sums has a few very bright experts and several dark ones.",
)

# %%
e = load.share_EJ[:, 5].argmax().item()
low, high = load.low_EJ[e, 5], load.high_EJ[e, 5]
print(f"expert {e} has {load.share_EJ[e, 5]:.1%} of the choices in code (95%, over documents: {low:.1%} to {high:.1%})")

# %% [markdown]
# It looks like topics. (The entries are spread evenly because the bias balanced this model on entries.) But sums are made of digits and code of punctuation: the columns may differ because the *tokens* differ. Turn the question round: how well can the experts of a document that was not counted be **guessed**, if one is told the kind of each token, or the token itself, or the source? And, decisive: how much does the source add when the token is already known? All in bits saved a choice. On documents that were not counted chance cannot help, so a useless hint saves 0 or a little less.
#
# How many of the bits that the source gives alone are left in layer 2?

# %%
kinds_M = token_kinds(tokenizer)[foreign.ids_M]
told = {}
for layer, chosen_MK in foreign.chosen.items():
    hints_given = {
        "token": (foreign.ids_M, []), "kind of token": (kinds_M, []), "source": (domain_M, []),
        "source, token known": (domain_M, [kinds_M, foreign.ids_M]),
    }  # fmt: skip
    for name, (label_M, beyond) in hints_given.items():
        told[name, layer] = held_out_bits(chosen_MK, label_M, foreign.document_M, E, beyond)
left = told["source, token known", 2].bits / told["source", 2].bits * 100
guess("08.left", "Which share of the source's bits is left in layer 2 once the token is known?", left, unit="%", tolerance=0.3)

# %%
for (name, layer), t in told.items():
    print(f"layer {layer}, told the {name:20} {t.bits:7.4f} bits (95%: {t.low:7.4f} to {t.high:7.4f})")
show(
    bars(
        {name: told[name, 2].bits for name in hints_given},
        "The token tells the experts; the topic hardly adds to it", "bits saved a choice, unseen documents, layer 2", form="{:.3f}",
    ),
    alt="Four bars: the token saves more than a bit, its kind about a third of one, the source a twentieth, and the "
    "source beyond the token next to nothing.",
)

# %% [markdown]
# So this is what the experts learned: **tokens**. Their kind is part of it, the particular token most of it. The source of the text tells something because its tokens differ, and once they are known a tenth of that little is left.
#
# Are there topics among texts whose tokens are alike? Take the four books alone.

# %%
books = (domain_M >= 1) & (domain_M <= 4)
austen = (domain_M == 2) | (domain_M == 3)
for layer, chosen_MK in foreign.chosen.items():
    for name, some, first, n in (("four books", books, 1, 4), ("two novels of one author", austen, 2, 2)):
        label_M, document_M = domain_M[some] - first, foreign.document_M[some]
        free, whole = (
            information_test(chosen_MK[some], label_M, E, n, how, document_M) for how in ("free", "whole documents")
        )
        print(
            f"layer {layer}, {name:24}: {free.observed_bits:.4f} bits; p = {free.p_value:.3f} (free shuffle), "
            f"{whole.p_value:.3f} (documents swapped)"
        )

# %% [markdown]
# At most three thousandths of a bit. These are four questions, so the bar is 0.05 / 4: the four books in layer 1 pass it with the free shuffle and fail with the other. That is the third way to be fooled: a free shuffle treats the tokens of one document as independent witnesses. They are not; a paragraph about a whale is about a whale throughout. A label that belongs to documents has to be shuffled by documents: there are 80 of them, not ten thousand. So shuffled, the four books are told apart in layer 2 alone, and Austen is not told from Austen. Whatever is there is a hundredth of what the kind of token gives.
#
# Two things keep this from being a statement about V3. Our model is small and has read one kind of text, so it had no topics to divide. And its tokens are 2,048 pieces of English. The models at the end are trained on three domains at once.

# %% [markdown] tags=["beat"]
# ## Take an expert away
#
# That function words prefer some experts does not mean that they need them. Remove an expert and look: it is blocked in the choice, and every token takes its next best. Can others stand in?
#
# One at a time in layer 1, on 144 entries. Where do you expect the loss to rise: on tokens that the expert served, on others, or on both? (The others can feel it too: they look back at the states of those served.)

# %%
from minimoe.inference.ablation import ablation_costs, mean_by_label, random_sets

fewer = entries[::2]
whole = record_routing(model, fewer)
singles = ablation_costs(model, fewer, 1, [[e] for e in range(E)], whole=whole)
served_EM = torch.stack([(whole.chosen[1] == e).any(1) for e in range(E)])
on_served, on_others = ([row[m].nanmean().item() for row, m in zip(singles, mask)] for mask in (served_EM, ~served_EM))
order = sorted(range(E), key=lambda e: -on_served[e])
missed = {f"expert {e}": 1000 * on_served[e] for e in order} | {"others' tokens": 1000 * sum(on_others) / E}
show(
    bars(
        missed, "A removed expert is missed where it worked, and little", "loss rises on its tokens by (thousandths of a nat)",
        grey=["others' tokens"], form="{:.1f}",
    ),
    alt="Sixteen bars, from twenty thousandths of a nat down to one: the loss on the tokens that each expert of layer 1 "
    "served, when it is removed. A grey bar, for the tokens that it did not serve, is shorter than nearly all.",
)
print(f"the loss of the whole model is {whole.loss:.2f} nats; without one expert of layer 1 it rises by {singles.nanmean():.4f} on average")

# %% [markdown]
# Others stand in. One expert of 16 is worth a thousandth of the loss. So take the three that function words prefer, all at once, and compare with other threes: nearly any removal hurts, and the question is whether *these three* hurt *function words* more than any three do.

# %%
kind_of_fewer = token_kinds(tokenizer)[whole.ids_M]
shares_EJ = tables[1] / tables[1].sum(0)
favourites = sorted(shares_EJ[:, 1].topk(3).indices.tolist())
others = random_sets(E, 3, draws=19, seed=0, other_than=favourites)
costs = ablation_costs(model, fewer, 1, [favourites, *others], whole=whole)
means = torch.stack([mean_by_label(row, kind_of_fewer, whole.document_M, J).mean_J for row in costs])
error = mean_by_label(costs[0], kind_of_fewer, whole.document_M, J).error_J
print(f"without experts {favourites}, the favourites of function words in layer 1:")
for j in common:
    p_value = (1 + (means[1:, j] >= means[0, j]).sum().item()) / len(means)
    middle = means[1:, j].median()
    used = shares_EJ[favourites, j].sum()
    print(f"  {KINDS[j]:14} {used:4.0%} of choices; {means[0, j]:.3f} ± {error[j]:.3f} nats, other threes {middle:.3f} (median); p = {p_value:.2f}")

# %% [markdown]
# The p-value is again a place in a row: the rank of the favourites among 20 sets of three, and 0.05 means first of twenty. (± is the standard error over documents.) Function words miss their three experts several times as much as the median three; word starts and word parts miss them no more than others. Punctuation misses them too: look at the shares, it uses them most after function words. Four kinds were tested: the bar would be 0.05 / 4, and twenty sets cannot reach it. And mind the size: 0.025 is under one percent of the loss.
#
# ### Exercise: an expert fewer
# ●●●○○ · 8 min · the experiment above, for one layer.
#
# Removed means re-routed: the expert cannot be chosen, the others are chosen as usual, and gates are as in chapter 03: the *unbiased* scores of the chosen, divided by their sum. $\text{out} = \text{shared} + \sum_{k} g_k\, \text{output}_k$. `outputs_MED` holds what each expert would put out for each token.
# By hand: scores `0.9 0.3 0.1`, no bias, two chosen, expert 0 removed: experts 1 and 2 with gates 0.75 and 0.25; outputs `10 20 40` and shared 1 give $1 + 15 + 10 = 26$.

# %% tags=["exercise"]
def ablated_output(shared_MD, outputs_MED, scores_ME, bias_E, removed, top_k):
    ...  # your code: return out_MD

ablated_output = check("08.ablated_output", ablated_output)

# %%
hints("08.ablated_output")

# %% [markdown] tags=["play"]
# ## Play
#
# Two models with the same start and the same data, side by side: one was never balanced, the other was balanced by the bias (chapter 04). Which of them divides the tokens among more experts, and which has experts left over?
#
# **Try first:** compare the bars. Then replace the text by sums modulo 10 (`3+4=7*2=4`) or by a line of code, and look for experts that appear in one kind of text only. Then ask yourself how many tokens you are looking at.

# %% tags=["play"]
from minimoe_widgets import RoutingExplorer

pair = [
    (minimoe.load(data_path("balance") / name, dtype=torch.float32), Tokenizer.load(data_path("balance") / name))
    for name in ("none", "loss_free")
]
text = "sea (noun): a large body of water, and the land at the edge of it"
explorer = RoutingExplorer(*pair[0], text=text, other=pair[1], names=("not balanced", "balanced by the bias"), layer=2)
show(explorer, alt=explorer.alt_text())

# %% [markdown]
# ## Tiny and real
#
# What can be seen depends on how much there is to count.

# %% tags=["tiny-vs-real", "nbval-check-output"]
import math


def facts(m):
    E, K, G, kept = m.n_routed_experts, m.num_experts_per_tok, m.n_group, m.topk_group
    return E, K, f"{kept} of {G}", math.log2(E), round(tokens_needed(0.001, E, K, 7))


what = "routed experts E; chosen K; groups a token may use; bits to name one expert; tokens until chance < 0.001 bits".split("; ")
source = ["arXiv 2412.19437 section 4.2"] * 3 + ["computed"] * 2
compare_table(zip(what, facts(model.config), facts(minimoe.V3), source), ours="nano")

# %% [markdown] tags=["when-it-pays"]
# ## When does it pay?
#
# Balancing pushes tokens to experts that they would not have chosen. Does it cost specialisation? DeepSeek says: it depends on *over what* you balance. A loss that wants every **sequence** balanced forbids an expert of its own to a domain, because a sequence has one domain. The bias looks at whole batches and allows it. Their evidence is a figure for two models of 16B, without a spread.
#
# Here it is small, with a spread: 120 steps of 1,024 tokens, each batch with rows of dictionary entries, of sums and of Python code, never mixed within a row. Four ways of balancing, five seeds each, about ten CPU-seconds a run (`data/specialisation`). Measured on held-out documents, in the second expert layer; chance is subtracted. A domain has its own tokens, so one column says what it adds beyond kind and token.
#
# Which of the three columns of bits will differ between the bias and the loss within a sequence?

# %% tags=["when-it-pays"]
import json

runs = [json.loads(line) for line in (data_path("specialisation") / "results.jsonl").read_text().splitlines()]
variants = list(dict.fromkeys(r["variant"] for r in runs))
assert all(sum(r["variant"] == v for r in runs) == 5 for v in variants)  # five seeds each


def column(variant, *path):
    rows = [r["layers"]["2"] for r in sorted(runs, key=lambda r: r["seed"]) if r["variant"] == variant]
    return torch.tensor([row[path[0]] if len(path) == 1 else row[path[0]][path[1]] for row in rows])


measures = {
    "domain": ("information_bits", "domain"), "beyond the token": ("held_out_bits", "domain beyond kind and token"),
    "kind of token": ("information_bits", "kind"), "MaxVio": ("maxvio",),
}  # fmt: skip
print(f"{'median (range), 5 seeds':23}", *(f"{name:>17}" for name in measures))
for v in variants:
    cells = [column(v, *path) for path in measures.values()]
    print(f"{v:23}", *(f"{f'{c.median():.2f} ({c.min():.2f}-{c.max():.2f})':>17}" for c in cells))

# %%
def interval(difference):  # mean and 95% interval of paired differences (Student's t, 5 seeds)
    half = 2.776 * difference.std().item() / len(difference) ** 0.5
    return f"{difference.mean():+.3f} (95%: {difference.mean() - half:+.3f} to {difference.mean() + half:+.3f})"


for label in list(measures)[:3]:
    print(f"{label}: bias minus")
    for v in variants[1:]:
        difference = column("bias", *measures[label]) - column(v, *measures[label])
        print(f"    {v:22}: {interval(difference)}; {(difference > 0).sum()} of {len(difference)} seeds above 0")
loss = torch.tensor([[r["loss"] for r in sorted(runs, key=lambda r: r["seed"]) if r["variant"] == v] for v in variants])
for name, of in (("four ways of balancing", loss.mean(1)), ("five seeds", loss.mean(0))):
    print(f"mean losses of the {name} differ by up to", *(f"{x:.3f}" for x in of.amax(0) - of.amin(0)), "(entries, sums, code)")

# %%
show(
    heatmap(
        torch.cat([torch.tensor(next(r for r in runs if r["variant"] == v and r["seed"] == 0)["layers"]["2"]["load_by_domain"])
                   for v in ("loss within a sequence", "bias")], 1).T,
        "Balanced by the bias (lower rows), experts follow the domain more than balanced within each sequence (upper)",
        "expert", "", yticks=[f"{d}, {v}" for v in ("sequence", "bias") for d in runs[0]["domains"]],
        unit="share of the domain's choices",
    ),
    alt="Six rows of 16 experts. The three upper rows, balanced within sequences, are of middling brightness; the three "
    "lower ones, balanced by the bias, have brighter and darker experts, and other ones in each domain.",
)

# %% [markdown]
# DeepSeek's claim holds here, and its reason too. With the bias an expert tells almost four times as many bits about the domain as with the loss within a sequence, and more in every seed. Most of that is the domain's tokens; once they are known, a median of 0.09 bits is left against 0.03, again more in every seed. A loss over the whole *batch* does no such harm. What decides is over what one balances. (V3's section 4.5.3 saw the same order in validation loss, for 1B models: 2.258 with the loss within sequences, 2.253 both with the bias and with a loss over the batch.)
#
# How the *kinds* of token are divided shows no difference that five seeds can tell from zero: all three intervals contain it. Without balancing it is not larger either: experts left idle (MaxVio) have nothing to tell.
#
# What this does not show: that it helps. The losses of the four lie closer together than those of the seeds. The weights of the losses (0.01) were not tuned to equal balance, and 120 steps are few.

# %% [markdown]
# Last, the **group limit**: 4 groups of 4, and a token may use 2. It exists to save traffic between machines. Does it stand in the way? If groups that are needed together met less often than their popularity explains, or if the loss fell when the limit is lifted, it would. Both on the dictionary model:

# %%
from minimoe.inference.group_use import expected_pairs, groups_used, pair_shares
from minimoe.inference.rerouting import group_limit

observed_GG = pair_shares(groups_used(record.chosen[2], E, 4))
expected_GG = expected_pairs(observed_GG)
for i, j in ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)):
    print(f"groups {i} and {j}: {observed_GG[i, j]:.1%} of tokens, {expected_GG[i, j]:.1%} if popularity alone decided")
for kept in (1, 2, 3, 4):
    with group_limit(model, kept):
        print(f"{kept} of 4 groups a token: loss {record_routing(model, fewer).loss:.4f}")

# %% [markdown]
# Two of the six pairs meet three points less often than popularity explains, others more: groups are not independent, and no pair is shut out. Lifting the limit does not lower the loss; it raises it a little, perhaps because this model was trained with two groups. One group costs more. What a model *trained* without groups gains is in chapter 03.

# %%
receipt([
    ("tokens of the main table", len(kind_M), "computed"),
    ("a planted dependence is found, independent data is not", "300 seeds", "asserted by tests/minimoe/inference/test_specialisation.py"),
    ("a planted expert is missed by its class alone", "to the bit", "asserted by tests/minimoe/inference/test_ablation.py"),
    ("padding is never counted", "", "asserted by tests/minimoe/inference/test_routing_record.py"),
    ("experts specialise more with the bias than with a sequence-wise loss", "figure 9", "source: arXiv 2412.19437 section 4.5.3"),
])

# %% [markdown] tags=["check-yourself"]
# ## Check yourself
#
# 1. A heat map of 64 experts and 20 topics, from 500 tokens with 6 experts each, shows 0.25 bits. Is it specialisation?
#
# <details><summary>Answer</summary>
#
# Chance alone gives $(64-6) \cdot 19 / (2 \cdot 500 \cdot 6 \cdot 0.693) = 0.26$ bits. It is nothing.
#
# </details>
#
# 2. p = 0.005 from 199 shuffles. Could more shuffles make it 0.0001?
#
# <details><summary>Answer</summary>
#
# Yes: 0.005 = 1/200 is the smallest that 199 shuffles can give. It says "no shuffle did as well", and nothing about how far away they were.
#
# </details>
#
# 3. An expert serves a third of all digits. Removing it, with re-routing, changes the loss on digits by nothing. Did it specialise?
#
# <details><summary>Answer</summary>
#
# Its router did: it sends digits there. Its weights may not differ from those of the expert that stands in. Preference and necessity are two measurements.
#
# </details>
#
# 4. Why are whole documents swapped, and not their tokens, when the label is the source?
#
# <details><summary>Answer</summary>
#
# The tokens of one document resemble each other for reasons that have nothing to do with its source. Swapping single tokens would treat them as independent witnesses: seven sources look different even if they are one.
#
# </details>

# %% [markdown] tags=["summary", "sources", "next"]
# ## Summary
# - The dictionary model's experts follow tokens: the token tells more than a bit about its experts, its kind about a third of one, the topic beyond that next to nothing.
# - Bits mean something beside a null that keeps what you are not asking about; documents, not tokens, are the sample; and many questions need a higher bar.
# - Balancing within sequences takes the experts' grip on domains away; balancing by the bias leaves it. For the kinds of token five seeds show no difference.
#
# ## Sources
# DeepSeek-V3, arXiv 2412.19437 (section 4.5.3, figure 9); DeepSeekMoE, arXiv 2401.06066 (section 4.5, ablation of experts); Mixtral, arXiv 2401.04088 (section 5); OpenMoE, arXiv 2402.01739 (experts follow token ids); Miller, *Note on the bias of information estimates*, 1955; Phipson and Smyth, arXiv 1603.05766 (p-values are never zero).
#
# ## Next
# You now have a trained model and the means to look inside. The following chapters teach it to reason by reward.

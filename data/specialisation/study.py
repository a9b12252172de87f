"""Do experts specialise less when they are balanced, and by which rule? Small models on three domains, five seeds.

    python data/specialisation/study.py               # four ways of balancing, seeds 0 to 4; what is there is kept
    python data/specialisation/study.py --table       # what came out

DeepSeek-V3's paper (section 4.5.3, figure 9) compares a model balanced by a loss within each sequence with one
balanced by the bias, and finds that the second specialises more by domain. A sequence has one domain, so a loss that
wants every sequence balanced forbids an expert of its own to a domain; a bias, or a loss over the whole batch, does
not. Here the same is tried small: rows of 128 tokens, each from one of three domains (dictionary entries, sums, Python
code), all three in every batch.

The code is the standard library of the Python that runs this, so another version gives slightly other numbers. No text
and no model is kept: each run is one line of `results.jsonl` with what its routers did on held-out documents.
"""

import argparse
import json
import platform
import statistics
import sysconfig
from dataclasses import replace
from pathlib import Path

import torch

import minimoe
from minimoe.inference.domain_load import held_out_bits
from minimoe.inference.routing_record import record_routing
from minimoe.inference.specialisation import chance_bits, count_table, information_bits
from minimoe.inference.token_kinds import KINDS, token_kinds
from minimoe.model.router import max_violation
from minimoe.tokenizer import Tokenizer
from minimoe.training import Batches, Settings, load_corpus, train
from minimoe.training.data import encode_documents
from minimoe.training.reasoning import Chain, draw_problems

HERE = Path(__file__).parent
RESULTS = HERE / "results.jsonl"
SEEDS, STEPS, ROW_TOKENS = (0, 1, 2, 3, 4), 120, 128
ROWS = {"dictionary": 3, "sums": 2, "code": 3}  # of a batch
MODULES = "argparse ast calendar configparser dataclasses difflib doctest fractions functools gettext heapq imaplib"
MODULES += " inspect locale mailbox nntplib optparse pdb pickle random shlex statistics string tarfile textwrap timeit"
MODULES += " typing uuid"  # of Python 3.11; newer ones have no nntplib
CONFIG = replace(
    minimoe.NANO,
    vocab_size=1024,
    hidden_size=64,
    intermediate_size=128,
    moe_intermediate_size=24,
    q_lora_rank=32,
    kv_lora_rank=16,
    qk_rope_head_dim=8,
    v_head_dim=16,
    max_position_embeddings=256,
    num_nextn_predict_layers=0,
    aux_loss_alpha=0.0,
)
# name: (weight of the loss within a sequence, settings)
VARIANTS = {
    "bias": (0.0, {"balance": "loss_free"}),
    "loss over the batch": (0.0, {"balance": "aux", "aux_alpha": 1e-2}),
    "loss within a sequence": (1e-2, {"balance": "none"}),
    "none": (0.0, {"balance": "none"}),
}


def corpora() -> dict[str, tuple[list[str], list[str]]]:
    """Domain -> documents to train on, documents held out."""
    words = load_corpus(HERE.parent / "wordnet")
    code = [block for name in MODULES.split() for block in blocks(name)]
    chain = Chain(operations=4)
    solved, asked = draw_problems(chain, 4000, 0), draw_problems(chain, 80, 0, held_out=True)
    return {
        "dictionary": (words.train, words.validation[:160]),
        "sums": ([spoken(chain, problem) for problem in solved], [spoken(chain, problem) for problem in asked]),
        "code": ([block for i, block in enumerate(code) if i % 10], code[::10][:60]),
    }


def spoken(chain: Chain, problem: str) -> str:
    """A chain and its value in one line, without marks: 1-3=8+1=9 is 9."""
    return chain.think(problem).replace("</think>", " is ").replace("<think>", "")


def blocks(module: str, characters: int = 300) -> list[str]:
    """A module's source, cut at blank lines into pieces of about that many characters."""
    path = Path(sysconfig.get_path("stdlib")) / f"{module}.py"
    pieces, piece = [], ""
    for part in path.read_text(encoding="utf-8").split("\n\n"):
        piece += part + "\n\n"
        if len(piece) >= characters:
            pieces.append(piece[: 3 * characters])
            piece = ""
    return pieces


def rows(documents: dict[str, list[list[int]]], seed: int):
    """Batches in which every row is of one domain."""
    sources = {name: Batches(documents[name], count, ROW_TOKENS, seed) for name, count in ROWS.items()}
    while True:
        yield torch.cat([source.take() for source in sources.values()])


def run(name: str, seed: int, tokenizer, training, held_out) -> dict:
    """Train one model and give its line."""
    alpha, settings = VARIANTS[name]
    model = minimoe.Transformer(replace(CONFIG, aux_loss_alpha=alpha), seed=seed)
    history = train(model, rows(training, seed), Settings(steps=STEPS, **settings), label=None)
    record = {
        "variant": name, "seed": seed, "sequence_alpha": alpha, "settings": settings, "steps": len(history),
        "tokens": history["tokens"][-1], "cpu_s": round(history["cpu_s"][-1], 1),
        "maxvio_last_20": round(statistics.fmean(history["maxvio"][-20:]), 3),
        "python": platform.python_version(), "torch": torch.__version__,
    }  # fmt: skip
    return record | measure(model, tokenizer, held_out)


def measure(model, tokenizer, held_out) -> dict:
    """Loss by domain, and for each layer what its experts follow, on held-out documents."""
    domain_of = [d for d, documents in enumerate(held_out.values()) for _ in documents]
    documents = [document for group in held_out.values() for document in group]
    record = record_routing(model.requires_grad_(False), documents)
    domain = torch.tensor(domain_of)[record.document_M]
    kind = token_kinds(tokenizer)[record.ids_M]
    loss = [round(record.loss_M[domain == d].nanmean().item(), 4) for d in range(len(held_out))]
    E, K, layers = model.config.n_routed_experts, model.config.num_experts_per_tok, {}
    for layer, chosen in record.chosen.items():
        tables = {"domain": (domain, len(held_out)), "kind": (kind, len(KINDS))}
        counts = {label: count_table(chosen, values, E, n) for label, (values, n) in tables.items()}
        chance = {label: chance_bits(len(domain), K, E, n) for label, (_, n) in tables.items()}
        bits = {label: information_bits(counts[label]) - chance[label] for label in tables}
        tells = {
            "token": held_out_bits(chosen, record.ids_M, record.document_M, E),
            "domain": held_out_bits(chosen, domain, record.document_M, E),
            "domain beyond kind and token": held_out_bits(chosen, domain, record.document_M, E, [kind, record.ids_M]),
        }
        load = counts["domain"].double()
        layers[layer] = {
            "maxvio": round(max_violation(load.sum(1)), 3),
            "maxvio_by_domain": [round(max_violation(column), 3) for column in load.T],
            "information_bits": {label: round(value, 4) for label, value in bits.items()},
            "held_out_bits": {label: round(told.bits, 4) for label, told in tells.items()},
            "load_by_domain": [[round(x, 4) for x in row] for row in (load / load.sum(0)).tolist()],
        }
    return {"domains": list(held_out), "tokens_held_out": domain.bincount().tolist(), "loss": loss, "layers": layers}


def results() -> dict[tuple[str, int], dict]:
    """What has been run: (variant, seed) -> record."""
    lines = RESULTS.read_text(encoding="utf-8").splitlines() if RESULTS.exists() else []
    return {(record["variant"], record["seed"]): record for record in map(json.loads, lines)}


def table() -> str:
    """One line a variant: medians and ranges over the seeds, second MoE layer."""
    lines = [f"{'variant':24}{'MaxVio':>20}{'domain, bits':>22}{'kind, bits':>22}{'loss':>22}"]
    for name in VARIANTS:
        mine = [record for (variant, _), record in results().items() if variant == name]
        if mine:
            last = [list(record["layers"].values())[-1] for record in mine]
            cells = [[x["maxvio"] for x in last], [x["information_bits"]["domain"] for x in last]]
            cells += [[x["information_bits"]["kind"] for x in last], [statistics.fmean(r["loss"]) for r in mine]]
            texts = (f"{statistics.median(c):8.3f} ({min(c):.3f}-{max(c):.3f})" for c in cells)
            lines.append(f"{name:24}" + "".join(texts))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("variants", nargs="*", metavar="VARIANT", help=", ".join(VARIANTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    if not arguments.table:
        torch.set_num_threads(1)
        texts = corpora()
        tokenizer = Tokenizer.train([t for train_on, _ in texts.values() for t in train_on[:2000]], CONFIG.vocab_size)
        training, held_out = ({d: encode_documents(tokenizer, pair[i]) for d, pair in texts.items()} for i in (0, 1))
        for seed in arguments.seeds:
            for name in arguments.variants or VARIANTS:
                if (name, seed) not in results():
                    record = run(name, seed, tokenizer, training, held_out)
                    known = results() | {(name, seed): record}
                    order = sorted(known, key=lambda key: (list(VARIANTS).index(key[0]), key[1]))
                    RESULTS.write_text("".join(json.dumps(known[key]) + "\n" for key in order), encoding="utf-8")
                    print(f"{name}, seed {seed}: {record['loss']}, {record['cpu_s']:.0f} CPU-s", flush=True)
    print(table())


if __name__ == "__main__":
    main()

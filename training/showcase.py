"""Load the demonstration's checkpoints as anyone would, and let each show what it learnt.

Run in a process of its own, so that nothing but the saved files carries over from training.
"""

import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, pipeline, set_seed

MASKED = "The for statement is used to [MASK] over the elements of a sequence."
BEGINNING = "The import statement"
CORRUPTED = "Return a <extra_id_0> of the given object."


def fill_mask(checkpoint: Path) -> str:
    """An encoder's three best guesses at a masked word."""
    guesses = pipeline("fill-mask", model=str(checkpoint))(MASKED, top_k=3)
    words = ", ".join(f"{guess['token_str'].strip()} ({guess['score']:.0%})" for guess in guesses)
    return f"{MASKED} -> {words}"


def continue_text(checkpoint: Path) -> str:
    """A decoder's continuation of a few words."""
    generator = pipeline("text-generation", model=str(checkpoint))
    set_seed(0)
    (sample,) = generator(BEGINNING, max_new_tokens=40, do_sample=True, temperature=0.7, top_k=20)
    return " ".join(sample["generated_text"].split())


def restore_span(checkpoint: Path) -> str:
    """What an encoder-decoder writes in place of a sentinel."""
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = AutoModelForSeq2SeqLM.from_pretrained(checkpoint)
    with torch.no_grad():
        written = model.generate(**tokenizer(CORRUPTED, return_tensors="pt"), max_new_tokens=12, num_beams=4)[0]
    span = tokenizer.decode(written).partition("<extra_id_0>")[2].partition("<extra_id_1>")[0].partition("</s>")[0]
    return f"{CORRUPTED} -> {' '.join(span.split()) or '(nothing)'}"


SAMPLES = {"encoder": fill_mask, "decoder": continue_text, "encoder-decoder": restore_span}

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    print(json.dumps({family: sample(folder / family) for family, sample in SAMPLES.items()}))

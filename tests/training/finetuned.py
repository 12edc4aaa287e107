"""Little examples of every task, checkpoints to fine-tune, and the verb that does it."""

import json
from pathlib import Path

import numpy as np

from tests.families import CONFIGS, HEADS, TINY
from trivium.training import finetune as verb
from trivium.training.finetune_arguments import FinetuneArguments, FinetuneTrainingArguments
from trivium.training.tasks.table import TASKS

WORDS = "the a statement object value name class method module import returns raises list string number".split()
GOOD, BAD = "true yes with and".split(), "false not except else".split()


def sentence(generator, extra=()) -> str:
    words = [*generator.choice(WORDS, generator.integers(3, 12)), *extra]
    return " ".join(generator.permutation(words).tolist())


def classification(generator, number):
    label = ["kind", "unkind", "none"][number % 3]
    return {
        "text": sentence(generator, [[*GOOD][number % 4]] if label == "kind" else BAD[:1] if label == "unkind" else ()),
        "label": label,
    }


def multi_label(generator, number):
    labels = [name for name, bit in (("good", 1), ("bad", 2)) if number & bit]
    return {"text": sentence(generator, [*(GOOD[:1] * (number & 1)), *(BAD[:1] * (number // 2 & 1))]), "labels": labels}


def regression(generator, number):
    return {"text": sentence(generator, ["yes"] * (number % 5)), "score": float(number % 5)}


def tagging(generator, number):
    words = sentence(generator, ["import", "yes"]).split()
    return {
        "tokens": words,
        "tags": ["B-THING" if word in GOOD else "I-THING" if word in BAD else "O" for word in words],
    }


def answering(generator, number):
    context = sentence(generator, ["value"]) + " " + sentence(generator)
    word = context.split()[number % 3]
    found = {"text": [word], "answer_start": [context.index(word)]} if number % 4 else {"text": [], "answer_start": []}
    return {"question": f"where is {word}?", "context": context, "answers": found}


def choosing(generator, number):
    return {"text": sentence(generator), "choices": [sentence(generator) for _ in range(3)], "label": number % 3}


def embedding(generator, number):
    text = sentence(generator)
    return {"text": text, "positive": " ".join(reversed(text.split())) + " x"}


def writing(generator, number):
    text = sentence(generator)
    return {"source": text, "target": text.split()[0]}


def talking(generator, number):
    text = sentence(generator)
    return {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": text.split()[-1]}]}


MAKERS = dict(
    zip(
        TASKS,
        (classification, multi_label, regression, tagging, answering, choosing, embedding, writing, talking),
        strict=True,
    )
)
# Every task with every family that has a head for it.
CASES = [(task, family) for task, kind in TASKS.items() for family in kind.heads]
TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def examples(task: str, count: int, seed: int = 0) -> list[dict]:
    generator = np.random.default_rng(seed)
    return [MAKERS[task](generator, number) for number in range(count)]


def write_data(folder: Path, task: str, train: int = 40, test: int = 12, **more: list[dict]) -> Path:
    """A folder of examples."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = {"train": examples(task, train), "validation": examples(task, test, 1), "test": examples(task, test, 2)}
    for split, content in (rows | more).items():
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content), encoding="utf-8")
    return folder


def write_base(folder: Path, family: str, tokenizer, **fields) -> Path:
    """A checkpoint that writes or fills in, with its tokenizer."""
    name = family.replace("-", "_")
    (head,) = [head for head in HEADS if head.family == name and head.task == "lm"]
    ids = {"eos_token_id": tokenizer.eos_token_id} if tokenizer.eos_token_id is not None else {}
    config = CONFIGS[name](**TINY | {"vocab_size": len(tokenizer), "max_position_embeddings": 128} | ids | fields)
    head.model(config).save_pretrained(folder)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return folder


def finetune(task: str, base: Path, data: Path, output_dir: Path, training=None, **arguments):
    """The verb as a function; `training` are settings of how to train."""
    settings = dict(max_steps=4, eval_strategy="steps", eval_steps=2, save_strategy="steps", save_steps=2)
    settings |= dict(learning_rate=1e-3, per_device_train_batch_size=8, disable_tqdm=True, output_dir=str(output_dir))
    form = {"max_target_length": 16, "max_length": 64} | arguments
    args = FinetuneArguments(task=task, model=str(base), data=[str(data)], **form)
    return verb.finetune(args, FinetuneTrainingArguments(**settings | (training or {})))

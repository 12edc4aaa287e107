"""How to load a checkpoint, in lines that run as they stand: where Trivium is installed, and where it is not."""

from typing import NamedTuple

from .facts import Facts

HERE = "path/to/this/folder"


class Head(NamedTuple):
    """What a model's class says of its use.

    Attributes:
        suffix: how its name ends.
        auto: the Auto class that loads it.
        task: the Hub's name of what it does, `None` where there is none.
        use: lines that use `model` and `tokenizer`.
    """

    suffix: str
    auto: str
    task: str | None
    use: tuple[str, ...] = ()


def _pipeline(task: str, text: str, options: str = "") -> tuple[str, ...]:
    return (
        f'{task.replace("-", "_")} = pipeline("{task}", model=model, tokenizer=tokenizer)',
        f"print({task.replace('-', '_')}({text}{options}))",
    )


HEADS = (
    Head(
        "ForMaskedLM",
        "AutoModelForMaskedLM",
        "fill-mask",
        _pipeline("fill-mask", 'f"This is a {tokenizer.mask_token}."'),
    ),
    Head(
        "ForCausalLM",
        "AutoModelForCausalLM",
        "text-generation",
        _pipeline("text-generation", '"This is", max_new_tokens=20'),
    ),
    Head(
        "LMHeadModel",
        "AutoModelForCausalLM",
        "text-generation",
        _pipeline("text-generation", '"This is", max_new_tokens=20'),
    ),
    Head(
        "ForConditionalGeneration",
        "AutoModelForSeq2SeqLM",
        "text2text-generation",
        (
            'inputs = tokenizer("{text}", return_tensors="pt")',
            'written = model.generate(input_ids=inputs["input_ids"], max_new_tokens=20)',
            "print(tokenizer.decode(written[0]))",
        ),
    ),
    Head(
        "ForSequenceClassification",
        "AutoModelForSequenceClassification",
        "text-classification",
        _pipeline("text-classification", '"This is a sentence."'),
    ),
    Head(
        "ForTokenClassification",
        "AutoModelForTokenClassification",
        "token-classification",
        _pipeline("token-classification", '"This is a sentence."'),
    ),
    Head("ForQuestionAnswering", "AutoModelForQuestionAnswering", "question-answering"),
    Head("ForMultipleChoice", "AutoModelForMultipleChoice", "multiple-choice"),
    Head("ForNextSentencePrediction", "AutoModelForNextSentencePrediction", None),
    Head("ForPreTraining", "AutoModelForPreTraining", None),
    Head("Model", "AutoModel", "feature-extraction"),
)


def head_of(model_class: str) -> Head:
    """What is known of a class by its name; of one that is not known, that it is a model."""
    return next((head for head in HEADS if model_class.endswith(head.suffix)), HEADS[-1]._replace(task=None))


def snippet(facts: Facts, where: str, remote: bool = False) -> str:
    """Python that loads the model, and uses it if its tokenizer is there.

    Args:
        where: the model's name on the Hub, or a folder.
        remote: by the code that lies beside the weights, and not by an installed Trivium.
    """
    head = head_of(facts.model_class)
    use = () if not facts.has_tokenizer or (head.task == "fill-mask" and not facts.has_mask_token) else head.use
    names = [head.auto, *(["AutoTokenizer"] if facts.has_tokenizer else [])]
    names += ["pipeline"] if any("pipeline(" in line for line in use) else []
    trust = ", trust_remote_code=True" if remote else ""
    lines = [] if remote or not facts.is_ours else ["import trivium  # which makes its models known to transformers"]
    lines += [f"from transformers import {', '.join(names)}", "", f'name = "{where}"']
    lines += ["tokenizer = AutoTokenizer.from_pretrained(name)"] if facts.has_tokenizer else []
    lines += [f"model = {head.auto}.from_pretrained(name{trust})"]
    return "\n".join([*lines, *(line.replace("{text}", _text(facts)) for line in use)])


def _text(facts: Facts) -> str:
    """What an encoder-decoder can make something of, by what it was trained for."""
    objective = facts.settings.get("objective") or ("span-corruption" if facts.settings else None)
    return "This is a <extra_id_0> sentence." if objective in ("span-corruption", "ul2") else "This is a sentence."

"""How to load a checkpoint, in lines that run as they stand: where Trivium is installed, and where it is not."""

from typing import NamedTuple

from .facts import Facts

HERE = "path/to/this/folder"
BASE = "path/to/the/base/model"


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


def head_of(facts: Facts) -> Head:
    """What is known of a class by its name, or of an adapter's by its task; of one not known, that it is a model."""
    found = [head for head in HEADS if facts.model_class.endswith(head.suffix)]
    if facts.adapter and not facts.model_class:
        found = [head for head in HEADS if head.auto == facts.adapter.auto]
    return found[0] if found else HEADS[-1]._replace(task=None)


def snippet(facts: Facts, where: str, remote: bool = False) -> str:
    """Python that loads the model, and uses it if there is a tokenizer for it.

    Args:
        where: the model's name on the Hub, or a folder.
        remote: by the code that lies beside the weights, and not by an installed Trivium.
    """
    head, (words, source) = head_of(facts), _tokenizer(facts)
    use = () if not words or (head.task == "fill-mask" and not words.has_mask_token) else head.use
    names = [head.auto, *(["AutoTokenizer"] if words else [])]
    names += ["pipeline"] if any("pipeline(" in line for line in use) else []
    lines = [] if remote or not facts.is_ours else ["import trivium  # which makes its models known to transformers"]
    lines += ["from peft import PeftModel"] if facts.adapter and facts.adapter.is_apart else []
    lines += [f"from transformers import {', '.join(names)}", "", f'name = "{where}"']
    lines += [f"tokenizer = AutoTokenizer.from_pretrained({source})"] if words else []
    lines += _load(facts, head, remote)
    return "\n".join([*lines, *(line.replace("{text}", _text(facts)) for line in use)])


def _tokenizer(facts: Facts) -> tuple[Facts | None, str]:
    """Whose tokenizer it is, and how Python says where that lies; an adapter may have that of its base model."""
    if facts.has_tokenizer:
        return facts, "name"
    if facts.adapter and facts.adapter.base.on_hub and facts.base and facts.base.has_tokenizer:
        return facts.base, f'"{facts.adapter.base.name}"'
    return None, ""


def _load(facts: Facts, head: Head, remote: bool) -> list[str]:
    options = ", trust_remote_code=True" if remote else ""
    adapter = facts.adapter
    if adapter and adapter.labels not in (None, getattr(facts.config, "num_labels", None)):
        options = f", num_labels={adapter.labels}{options}"  # else the classifier would have the base model's size
    if not adapter or not adapter.is_apart:
        return [f"model = {head.auto}.from_pretrained(name{options})"]
    base = adapter.base.name if adapter.base.on_hub else BASE
    return [f'base = {head.auto}.from_pretrained("{base}"{options})', "model = PeftModel.from_pretrained(base, name)"]


def _text(facts: Facts) -> str:
    """What an encoder-decoder can make something of, by what it was trained for."""
    objective = facts.settings.get("objective") or ("span-corruption" if facts.settings else None)
    return "This is a <extra_id_0> sentence." if objective in ("span-corruption", "ul2") else "This is a sentence."

"""Adapters of PEFT for every family and head: what of a model they go into, and what is trained whole beside them."""

from typing import Any

from ..configuration.errors import InputError

# What PEFT calls the tasks of heads.
TASK_TYPES = {
    "AutoModelForSequenceClassification": "SEQ_CLS",
    "AutoModelForTokenClassification": "TOKEN_CLS",
    "AutoModelForQuestionAnswering": "QUESTION_ANS",
    "AutoModelForCausalLM": "CAUSAL_LM",
    "AutoModelForSeq2SeqLM": "SEQ_2_SEQ_LM",
    "AutoModel": "FEATURE_EXTRACTION",
}
WRITES = ("lm_head", "transform")


def add_adapter(model: Any, auto: str, settings: dict[str, Any]) -> Any:
    """Wraps a model so that only an adapter, and a head that is new, are trained.

    Args:
        model: of any family, with any head.
        auto: the Auto class that it was loaded with.
        settings: fields of `peft.LoraConfig`, for instance `r`, `lora_alpha`, `use_dora`, `use_rslora`.

    Raises:
        InputError: a setting that PEFT does not have, or that does not fit the model.
    """
    from peft import LoraConfig, get_peft_model

    defaults: dict[str, Any] = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.05, "task_type": TASK_TYPES.get(auto)}
    whole = list(settings.get("modules_to_save") or [])
    if whole:
        defaults["ensure_weight_tying"] = True  # else what is tied comes apart
    trained = {"modules_to_save": [*new_heads(model), *whole] or None}
    try:
        config = LoraConfig(**defaults | settings | trained)
        return get_peft_model(model, config)
    except (TypeError, ValueError) as error:
        raise InputError(f"the adapter cannot be made of {settings}: {' '.join(str(error).split())}") from None


def new_heads(model: Any) -> list[str]:
    """The modules of a model that pretraining knows nothing of: all beside its stack, unless they write tokens."""
    names = [
        name
        for name, module in model.named_children()
        if name != model.base_model_prefix and name not in WRITES and any(True for _ in module.parameters())
    ]
    is_head = model is not getattr(model, model.base_model_prefix, model)
    return names if is_head else []

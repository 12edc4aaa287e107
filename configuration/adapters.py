"""What PEFT puts adapters into where nobody says."""

import sys

# Every projection of a block: adapters learn most in all of them (Hu et al., 2021, put them into two).
LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
TABLES, LIKE = "_MODULES_MAPPING", "llama"


def tell_peft(model_type: str) -> None:
    """Enters a type of model in PEFT's tables of default targets, if PEFT has been imported.

    For the methods besides LoRA it is entered as Llama is, whose projections have the same names.
    """
    constants = sys.modules.get("peft.utils.constants")
    for name, table in vars(constants).items() if constants else ():
        if name.endswith(TABLES) and isinstance(table, dict) and set(table.get(LIKE) or "?") <= set(LORA_TARGETS):
            table.setdefault(model_type, list(LORA_TARGETS) if "_TO_LORA_" in name else table[LIKE])

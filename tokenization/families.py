"""What makes a tokenizer an encoder's, a decoder's or an encoder-decoder's: special tokens, templates, chat format."""

from dataclasses import dataclass

from tokenizers import AddedToken
from transformers import PreTrainedTokenizerBase

# ChatML with a leading bos. Contents are trimmed, so that the prompt's tokens are always a prefix of the whole
# conversation's; what `generation` encloses (the answer and its end mark) is what `assistant_only_loss` trains on.
CHAT_TEMPLATE = """\
{{- bos_token }}
{%- for message in messages %}
    {%- if message['role'] not in ['system', 'user', 'assistant'] %}
        {{- raise_exception("A message's role must be system, user or assistant, not " + message['role'] | string) }}
    {%- endif %}
    {%- if message['content'] is not string %}
        {{- raise_exception("A message's content must be a string") }}
    {%- endif %}
    {{- '<|im_start|>' + message['role'] + '\\n' }}
    {%- if message['role'] == 'assistant' %}
        {%- generation %}
        {{- message['content'] | trim + '<|im_end|>' }}
        {%- endgeneration %}
    {%- else %}
        {{- message['content'] | trim + '<|im_end|>' }}
    {%- endif %}
    {{- '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""


@dataclass(frozen=True)
class Family:
    """The special tokens of one family and the forms that a text and a pair of texts take.

    Attributes:
        named: special tokens by the name transformers gives their role; their order is the order of their ids.
        extra: special tokens without such a role (chat marks, sentinels); their ids follow.
        single: template of one text `$A`.
        pair: template of two texts `$A` and `$B`; `:1` marks what has token type 1.
        unk_token: the unknown token, added to `named` for algorithms that need one.
        chat_template: Jinja template of a conversation, for families that converse.
    """

    named: dict[str, str]
    extra: tuple[str, ...]
    single: str
    pair: str
    unk_token: str
    chat_template: str | None = None

    def special_tokens(self, with_unknown: bool) -> tuple[dict[str, AddedToken], list[AddedToken]]:
        """The tokens by role and the extra ones, in the order of their ids.

        What stands in for text (mask, sentinels) swallows the space to its left: models learn it in place of a token
        that begins with that space, and "used to [MASK] over" must read the same.
        """
        named = dict(self.named)
        if with_unknown:
            named.setdefault("unk_token", self.unk_token)
        stands_for_text = {"[MASK]", *(token for token in self.extra if token.startswith("<extra_id_"))}

        def added(token: str) -> AddedToken:
            return AddedToken(token, special=True, lstrip=token in stands_for_text)

        return {role: added(token) for role, token in named.items()}, [added(token) for token in self.extra]


FAMILIES: dict[str, Family] = {
    "encoder": Family(
        named={
            "pad_token": "[PAD]",
            "unk_token": "[UNK]",
            "cls_token": "[CLS]",
            "sep_token": "[SEP]",
            "mask_token": "[MASK]",
        },
        extra=(),
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        unk_token="[UNK]",
    ),
    "decoder": Family(
        named={"pad_token": "<|pad|>", "bos_token": "<|bos|>", "eos_token": "<|eos|>"},
        extra=("<|im_start|>", "<|im_end|>", "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
        single="<|bos|> $A",
        pair="<|bos|> $A <|eos|> $B",
        unk_token="<|unk|>",
        chat_template=CHAT_TEMPLATE,
    ),
    "encoder-decoder": Family(
        named={"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "bos_token": "<s>"},
        extra=tuple(f"<extra_id_{index}>" for index in range(100)),
        single="$A </s>",
        pair="$A </s> $B </s>",
        unk_token="<unk>",
    ),
}


def special_token_ids(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """The special ids that a tokenizer has, under the names of the config fields that take them.

    A tokenizer with sentinels serves an encoder-decoder, whose decoder starts from the padding token (T5, Raffel et
    al., 2020), so it also gives `decoder_start_token_id`. Use: `TriviumDecoderConfig(vocab_size=len(tokenizer),
    **special_token_ids(tokenizer))`.
    """
    roles = ("pad", "bos", "eos", "cls", "sep", "mask")
    ids = {f"{role}_token_id": getattr(tokenizer, f"{role}_token_id") for role in roles}
    if "<extra_id_0>" in tokenizer.extra_special_tokens:
        ids["decoder_start_token_id"] = tokenizer.pad_token_id
    return {field: index for field, index in ids.items() if index is not None}

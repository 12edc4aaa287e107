"""Random configurations: valid ones of every family, and ways to spoil them."""

from hypothesis import strategies as st

FAMILIES = ("encoder", "decoder", "encoder_decoder")
VOCAB = 24


def optional(strategy):
    return st.one_of(st.none(), strategy)


positive = st.floats(min_value=0.1, max_value=20.0)
dropout = st.one_of(st.just(0), st.floats(min_value=0.0, max_value=0.9))
flag = st.booleans()
token = st.integers(0, VOCAB - 1)

FREE_FIELDS = dict(
    intermediate_size=optional(st.integers(1, 24)),
    norm_eps=st.floats(min_value=1e-8, max_value=1e-2),
    norm_placement=st.sampled_from(["pre", "post", "sandwich"]),
    final_norm=optional(flag),
    hidden_act=st.sampled_from(["gelu", "relu", "silu", "gelu_pytorch_tanh", "quick_gelu", "relu2"]),
    gated_mlp=flag,
    attention_scaling=optional(positive),
    final_logit_softcapping=optional(positive),
    logit_scale=optional(positive),
    qk_norm=flag,
    attention_bias=flag,
    attention_output_bias=flag,
    mlp_bias=flag,
    embedding_scale=optional(positive),
    embedding_norm=flag,
    type_vocab_size=st.integers(0, 3),
    lm_head_transform=flag,
    lm_head_bias=flag,
    tie_word_embeddings=flag,
    hidden_dropout=dropout,
    attention_dropout=dropout,
    activation_dropout=dropout,
    embedding_dropout=dropout,
    classifier_dropout=dropout,
    initializer_range=st.floats(min_value=0.001, max_value=0.5),
    pad_token_id=token,
    bos_token_id=optional(token),
    eos_token_id=st.one_of(st.none(), token, st.lists(token, min_size=1, max_size=3)),
)
ENCODER_FIELDS = dict(pooler=flag, classifier_pooling=st.sampled_from(["cls", "mean"]), mask_token_id=optional(token))
DECODER_FIELDS = dict(use_cache=flag)
ENCODER_DECODER_FIELDS = dict(use_cache=flag, share_embeddings=flag, decoder_start_token_id=optional(token))


@st.composite
def stacks(draw, causal: bool) -> dict:
    """Fields of a stack that can be built."""
    fields = draw(st.fixed_dictionaries({}, optional=FREE_FIELDS))
    if causal:
        fields.pop("type_vocab_size", None)
    heads = draw(st.sampled_from([1, 2, 3, 4]))
    fields |= {"vocab_size": VOCAB, "num_attention_heads": heads, "max_position_embeddings": 12}
    fields["hidden_size"] = heads * draw(st.sampled_from([2, 4, 6]))
    if draw(flag):
        fields["num_key_value_heads"] = draw(st.sampled_from([n for n in (1, 2, 3, 4) if heads % n == 0]))
    if draw(flag):
        fields["head_dim"] = draw(st.sampled_from([2, 4, 10]))
    fields |= draw(norms()) | draw(positions()) | draw(layers())
    return fields


@st.composite
def norms(draw) -> dict:
    if draw(flag):
        return {"norm": "layernorm", "norm_bias": draw(flag)}
    return {"norm": "rmsnorm", "norm_unit_offset": draw(flag)}


@st.composite
def positions(draw) -> dict:
    kind = draw(st.sampled_from(["rope", "learned", "sinusoidal", "relative", "alibi", "none"]))
    fields = {"position_encoding": kind}
    if kind == "rope" and draw(flag):
        parameters = {"rope_theta": draw(st.floats(min_value=2.0, max_value=1e6)), "rope_type": "default"}
        if draw(flag):
            parameters |= {"rope_type": "linear", "factor": draw(st.floats(min_value=1.0, max_value=8.0))}
        fields["rope_parameters"] = parameters
    if kind in ("learned", "sinusoidal"):
        fields["position_offset"] = draw(st.integers(0, 3))
    if kind == "relative":
        buckets = draw(st.sampled_from([4, 8, 32]))
        fields |= {"relative_attention_num_buckets": buckets}
        fields["relative_attention_max_distance"] = draw(st.integers(buckets // 2 + 1, 200))
    if kind not in ("alibi", "relative") or draw(flag):
        fields["attn_logit_softcapping"] = draw(optional(positive))
    return fields


@st.composite
def layers(draw) -> dict:
    depth = draw(st.integers(0, 3))
    fields = {"num_hidden_layers": depth}
    how = draw(st.sampled_from(["plain", "window", "listed"]))
    if how == "window" and depth:
        fields["sliding_window"] = draw(st.integers(1, 6))
    if how == "listed":
        kinds = draw(st.lists(st.sampled_from(["full_attention", "sliding_attention"]), min_size=depth, max_size=depth))
        fields["layer_types"] = kinds
        if "sliding_attention" in kinds:
            fields["sliding_window"] = draw(st.integers(1, 6))
    return fields


@st.composite
def valid_fields(draw, family: str) -> dict:
    """What the constructor of a family's configuration takes."""
    if family == "encoder":
        return draw(stacks(causal=False)) | draw(st.fixed_dictionaries({}, optional=ENCODER_FIELDS))
    if family == "decoder":
        return draw(stacks(causal=True)) | draw(st.fixed_dictionaries({}, optional=DECODER_FIELDS))
    fields = draw(st.fixed_dictionaries({}, optional=ENCODER_DECODER_FIELDS))
    shared = draw(stacks(causal=True))
    if draw(flag):
        return shared | fields
    other = draw(stacks(causal=True))
    if fields.get("share_embeddings", True):
        width = {name: shared[name] for name in ("hidden_size", "num_attention_heads")}
        other = {k: v for k, v in other.items() if k not in ("num_key_value_heads", "head_dim")} | width
        shared = {k: v for k, v in shared.items() if k != "head_dim"}
    return fields | {"encoder": shared, "decoder": other}


# What spoils a configuration: the field that the refusal must name, the fields that make it so, and a draw of values.
NEGATIVE = st.integers(-5, 0)
NOT_FINITE = st.sampled_from([0.0, -1.0, float("nan"), float("inf")])
TEXT = st.sampled_from(["", "many", "12"])
OUTSIDE = st.one_of(st.integers(-9, -1), st.integers(VOCAB, VOCAB + 9))
SPOILERS = [
    *((name, {}, NEGATIVE) for name in ("vocab_size", "hidden_size", "intermediate_size", "num_attention_heads")),
    *((name, {}, NEGATIVE) for name in ("num_key_value_heads", "head_dim", "max_position_embeddings")),
    *((name, {}, TEXT) for name in ("vocab_size", "hidden_size", "norm_eps", "pooler", "layer_types", "qk_norm")),
    *((name, {}, TEXT) for name in ("position_encoding", "norm", "norm_placement", "hidden_act", "hidden_dropout")),
    *((name, {}, st.none()) for name in ("hidden_size", "norm", "hidden_act", "gated_mlp", "initializer_range")),
    *((name, {}, NOT_FINITE) for name in ("norm_eps", "attention_scaling", "logit_scale", "embedding_scale")),
    *((name, {}, NOT_FINITE) for name in ("attn_logit_softcapping", "final_logit_softcapping")),
    *(
        (name, {}, st.sampled_from([-0.1, 1.0, 1, 2.0, float("nan")]))
        for name in ("hidden_dropout", "attention_dropout", "activation_dropout", "embedding_dropout")
    ),
    ("classifier_dropout", {}, st.sampled_from([-1, 1.5])),
    ("initializer_range", {}, st.sampled_from([0.0, -0.02, 1.5, float("nan")])),
    ("num_hidden_layers", {}, st.integers(-4, -1)),
    ("type_vocab_size", {}, st.integers(-4, -1)),
    *((name, {}, OUTSIDE) for name in ("pad_token_id", "bos_token_id", "eos_token_id")),
    ("eos_token_id", {}, st.lists(OUTSIDE, min_size=1, max_size=2)),
    ("num_key_value_heads", dict(num_attention_heads=4, hidden_size=16), st.sampled_from([3, 5, 8])),
    ("num_attention_heads", dict(hidden_size=16, head_dim=None, num_key_value_heads=None), st.sampled_from([3, 5, 7])),
    ("head_dim", dict(position_encoding="rope", rope_parameters=None), st.sampled_from([1, 3, 5])),
    (
        "layer_types",
        dict(num_hidden_layers=2),
        st.sampled_from([["full_attention"], ["full_attention"] * 3, ["wide"] * 2]),
    ),
    ("sliding_window", dict(num_hidden_layers=1, layer_types=["sliding_attention"]), st.sampled_from([None, 0, -3])),
    ("position_offset", dict(position_encoding="alibi", attn_logit_softcapping=None), st.integers(1, 4)),
    ("position_offset", dict(position_encoding="learned"), st.integers(-4, -1)),
    (
        "hidden_size",
        dict(position_encoding="sinusoidal", num_attention_heads=1, head_dim=4, num_key_value_heads=1),
        st.just(5),
    ),
    ("relative_attention_num_buckets", dict(position_encoding="relative"), st.sampled_from([0, 2, 7, -8])),
    (
        "relative_attention_max_distance",
        dict(position_encoding="relative", relative_attention_num_buckets=8),
        st.integers(-1, 4),
    ),
    ("norm_bias", dict(norm="rmsnorm", norm_unit_offset=False), st.just(True)),
    ("norm_unit_offset", dict(norm="layernorm", norm_bias=False), st.just(True)),
    ("rope_parameters", dict(position_encoding="learned"), st.just({"rope_theta": 10.0, "rope_type": "default"})),
    ("rope_theta", dict(position_encoding="none", position_offset=0), st.just(100.0)),
    ("rope_type", dict(position_encoding="rope", position_offset=0), st.none()),
]
# A field that is needed beside one that cannot be without it goes along with it.
NEEDLESS = {"position_encoding": ("position_offset", "rope_parameters", "attn_logit_softcapping")}


@st.composite
def invalid_fields(draw, family: str) -> tuple[str, dict]:
    """The field at fault, and a configuration that is spoilt by it alone."""
    fields = draw(valid_fields(family))
    choices = [s for s in SPOILERS if family == "encoder" or s[0] != "pooler"]
    name, setting, values = draw(st.sampled_from(choices))
    stack = fields.get("decoder", fields)
    for cause, needless in NEEDLESS.items():
        if cause in setting:
            for field in needless:
                stack.pop(field, None)
    stack |= setting
    if name == "rope_type":
        name = "rope_parameters"
        stack[name] = {"rope_type": "spiral", "rope_theta": 10.0}
    else:
        stack[name] = draw(values)
    return name, fields

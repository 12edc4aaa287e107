"""What stands at the places that the template leaves open, and what is missing."""

from typing import Any

from . import adapted, sections
from .answers import ANSWERS, QUESTIONS, Answers
from .facts import Facts
from .metadata import base_model, languages
from .plots import PICTURE, curves
from .results import HELD_OUT, LANGUAGE_METRICS, OF_THE_RUN, Result, measured_at_the_end, results
from .text import Markdown, block, code, escape, link, number, prose, redact, table
from .usage import HERE, snippet
from .vocabulary import language_name

# Which answers stand where, and under which words.
TITLES = {
    "data": {"data_description": "Where the text is from.", "data_license": "Licence of the text."},
    "use": {
        "intended_use": "Intended use.",
        "out_of_scope": "Out of scope.",
        "limitations": "Limitations.",
        "biases": "Biases.",
        "language": "Languages.",
    },
    "licence": {"license": "Licence of the model.", "contact": "Contact."},
}
DATA = ("", "Share of the tokens", "To train on", "Tokens", "Held out", "Languages", "Licence")
HOW = {
    ("pretrain", True): "trained further from {}",
    ("pretrain", False): "pretrained from scratch",
    ("finetune", True): "fine-tuned from {}",
    ("finetune", False): "trained from scratch",
}
LINKS = {"quantized": "the same model in another form", "finetune": "trained further from it"}


def make_values(
    facts: Facts, answers: Answers, conversion: dict[str, Any], name: str, no_picture: str | None
) -> tuple[dict[str, Any], list[str]]:
    """The values of the template but for the metadata, and what is not answered or not known, a clause each.

    Args:
        no_picture: why there is no picture of the curves, if there is none.
    """
    where = str(answers.get("repo_id") or HERE)
    drawn = curves(facts.log)
    answers = ({"language": spoken} if (spoken := languages(facts)) else {}) | answers
    known = _known_already(facts, answers, conversion)
    if conversion.get("license"):
        answers = {"license": conversion["license"]} | answers
    found = results(facts)
    loads = not facts.adapter or adapted.is_loading_known(facts)
    values = {
        "title": name,
        "version": None if facts.adapter else getattr(facts.config, "trivium_version", None),
        "is_adapter": bool(facts.adapter),
        "may_have_code": bool(facts.adapter and not facts.base),
        "summary": summary(facts, answers, conversion),
        "notes": [*adapted.notes(facts, answers), *_notes(facts)],
        "conversion": _conversion(conversion),
        "is_ours": facts.is_ours,
        "snippets": [Markdown(snippet(facts, where, remote)) for remote in (False, True)] if loads else [],
        "is_placeholder": where == HERE,
        "architecture": _architecture(facts, conversion),
        "data": _data(facts),
        "no_data": _no_data(facts, conversion),
        "procedure": table(("", ""), rows) if (rows := sections.procedure(facts)) else None,
        "no_procedure": _no_data(facts, conversion),
        "picture": None
        if no_picture
        else {"alt": escape(f"Curves of the run: {drawn.words}"), "path": Markdown(PICTURE.as_posix())},
        "curves": drawn.words,
        "command": block(facts.record["command"], "bash") if facts.record.get("command") else None,
        "recipe": _recipe(facts),
        "verb": Markdown(facts.verb),
        "compares_bytes": any(one.metric in LANGUAGE_METRICS for one in found),
        "results": _results(found),
        "measured_by": [
            block(command, "bash")
            for command in dict.fromkeys(one.command for one in found if one.split not in OF_THE_RUN)
        ],
        "held_out": _held_out(facts) if any(one.split == HELD_OUT for one in found) else None,
        "unigram": _metric(facts, "held_out_bits_per_byte_unigram") if found else None,
        "before": _metric(facts, "held_out_bits_per_byte_before"),
        "how_to_measure": _how_to_measure(facts, where),
        "emissions": emissions(facts),
        "answered": {
            part: [_answered(name, title, answers) for name, title in titles.items() if name not in known]
            for part, titles in TITLES.items()
        },
        "answers_file": Markdown(ANSWERS),
    }
    return values, missing(facts, answers, known, no_picture)


def missing(facts: Facts, answers: Answers, known: set[str], no_picture: str | None) -> list[str]:
    """What the card cannot say, and how it could."""
    found = [
        f"{name}: {question.what} (--{name} {question.example!r})"
        for name, question in QUESTIONS.items()
        if question.asked and name not in answers and name not in known
    ]
    if not facts.record and not known:
        found.append("how it was trained: no record of that lies beside the weights")
    if facts.log and no_picture:
        found.append(f"the curves: {no_picture}")
    if not results(facts):
        found.append(f"what it can do: {_how_to_measure(facts, str(facts.place))}")
    if facts.record and not facts.record.get("emissions"):
        found.append("what it cost: `trivium pretrain --emissions_country FRA` estimates energy and emissions")
    return [*found, *adapted.missing(facts, answers)]


def _known_already(facts: Facts, answers: Answers, conversion: dict[str, Any]) -> set[str]:
    """Questions that need no answer: the licence of text that is on record, and what is for another card to say."""
    licenses = [source.get("license") for source in facts.record.get("data") or []]
    known = {"data_license"} if licenses and all(licenses) else set()
    return (known | ({"data_license", "data_description"} if conversion else set())) - set(answers)


def summary(facts: Facts, answers: Answers, conversion: dict[str, Any]) -> Markdown:
    """What the model is, in a paragraph."""
    if facts.adapter:
        return adapted.summary(facts, answers)
    if conversion:
        return _summary_of_conversion(facts, conversion)
    family, objective = sections.family_of(facts), sections.objective_of(facts)
    kind = sections.FAMILIES.get(family or "", f"a {facts.config.model_type} model")
    text = f"{code(facts.model_class)}, {escape(kind)}{_size(facts, conversion)}."
    if objective and objective[1]:
        how = HOW[facts.verb, bool(facts.start)].format(link(facts.start) if facts.start else "")
        text += f" It was {how} to {escape(objective[1])}."
    else:
        base, relation = base_model(facts, answers, conversion)
        text += f" It was made of {link(base)}: {escape(LINKS.get(relation or '', relation or ''))}." if base else ""
    return Markdown(text)


def _summary_of_conversion(facts: Facts, conversion: dict[str, Any]) -> Markdown:
    source = conversion.get("base_model") or conversion.get("source")
    return Markdown(
        f"The weights of {link(source)}, a {escape(conversion.get('kind', ''))}, under other names: a "
        f"{code(facts.model_class)}{_size(facts, conversion)}, not trained any further."
    )


def weights_of(facts: Facts, conversion: dict[str, Any]) -> str | None:
    """Parameters and their dtype; a conversion has counted what files of transformers mix with other tensors."""
    if facts.weights is None:
        return None
    return f"{conversion.get('parameters', facts.weights[0]):,} parameters in {facts.weights[1]}"


def _size(facts: Facts, conversion: dict[str, Any]) -> str:
    weights = weights_of(facts, conversion)
    return f" with {weights}" if weights else ""


def _notes(facts: Facts) -> list[str]:
    last, best = facts.state.get("max_steps"), facts.state.get("best_global_step")
    if facts.finished and best and (facts.record.get("training") or {}).get("load_best_model_at_end"):
        return [Markdown(f"The weights are those **of step {best:,}**, which did best on what was held out.")]
    if facts.finished or not facts.step or not last or facts.step >= last:
        return []
    return [Markdown(f"Taken **on the way**, after {facts.step:,} of {last:,} steps: training was not over.")]


def _conversion(conversion: dict[str, Any]) -> dict[str, Any] | None:
    if not conversion:
        return None
    return {"agreement": conversion.get("agreement", "not known"), "notes": conversion.get("notes") or []}


def _architecture(facts: Facts, conversion: dict[str, Any]) -> Markdown:
    if facts.adapter:
        base = _architecture(facts.base, {}) if facts.base else None
        return adapted.architecture(facts, base)
    head, rows = sections.architecture(facts)
    if weights := weights_of(facts, conversion):
        rows.append(["In all", weights, *[""] * (len(head) - 2)])
    return table(head, rows)


def _data(facts: Facts) -> Markdown | None:
    """A table, without the columns of which nothing is to be said."""
    rows = sections.training_data(facts)
    if len(rows) < 2:
        rows = [[row[0], "all", *row[2:]] for row in rows]
    return table(DATA, rows) if rows else None


def _no_data(facts: Facts, conversion: dict[str, Any]) -> Markdown:
    if conversion:
        return Markdown("As the model that it was converted from; its own card may tell.")
    return Markdown("*Not known: no record of a training run lies beside the weights.*")


def _recipe(facts: Facts) -> Markdown | None:
    import yaml

    recipe = facts.record.get("recipe")
    return block(redact(yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True)), "yaml") if recipe else None


def _results(found: list[Result]) -> Markdown | None:
    rows = [(code(result.data), result.split, result.name, number(result.value)) for result in found]
    return table(("Text", "Part", "Metric", "Value"), rows) if rows else None


def _held_out(facts: Facts) -> Markdown:
    """On how much, if that is on record; true in front of nothing."""
    measured = measured_at_the_end(facts)
    tokens, size = (measured.get(f"eval_predicted_{unit}") for unit in ("tokens", "bytes"))
    return Markdown(f", which predicted {tokens:,} tokens of it ({size:,} bytes)" if tokens and size else "")


def _metric(facts: Facts, name: str) -> str | None:
    value = facts.metrics.get(name)
    return f"{value:.3f}" if isinstance(value, float) else None


def _how_to_measure(facts: Facts, where: str) -> Markdown:
    if facts.adapter:
        return adapted.HOW_TO_MEASURE
    return Markdown(f"{code(f'trivium evaluate --model {where} --data FILE --json {where}/evaluation.json')} does it")


def emissions(facts: Facts) -> Markdown | None:
    """Energy and emissions in words, if they were measured."""
    record = facts.record.get("emissions") or {}
    measured = record.get("co2_eq_emissions") or {}
    if not measured:
        return None
    rows = {
        "Emissions": f"{number(measured.get('emissions'))} g of CO2 equivalents",
        "Energy": f"{number(record.get('energy_kwh'))} kWh",
        "Place": measured.get("geographical_location"),
        "Hardware": measured.get("hardware_used"),
        "Measured by": measured.get("source"),
    }
    rows |= {"Steps": f"{steps[0]:,} to {steps[1]:,}"} if (steps := record.get("steps")) else {}
    shown = table(("", ""), [(name, value) for name, value in rows.items() if value])
    return Markdown(f"{shown}\n\n{escape(str(record.get('note', '')).capitalize())}.")


def _answered(name: str, title: str, answers: Answers) -> dict[str, Any]:
    """The title and the text of an answer; of a question that nobody answered, that it was asked."""
    if name not in answers:
        question = QUESTIONS[name]
        how = code(f"trivium card FOLDER --{name} {question.example!r}")
        return {"title": title, "text": Markdown(f"*Not answered: {escape(question.what)}.* ({how})")}
    value = answers[name]
    if name == "language":
        text = escape(", ".join(map(language_name, value)))
    elif name == "license":
        text = _license(answers)
    else:
        text = prose(value)
    separator = "\n\n" if "\n" in text or text.startswith("- ") else ""
    return {"title": title, "text": Markdown(separator + text)}


def _license(answers: Answers) -> Markdown:
    if answers["license"] != "other":
        return code(answers["license"])
    link = f" ({escape(answers['license_link'])})" if answers.get("license_link") else ""
    return Markdown(f"{escape(answers.get('license_name', 'other'))}{link}")

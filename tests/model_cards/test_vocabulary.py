import pytest

from trivium.configuration import InputError
from trivium.model_cards import vocabulary
from trivium.model_cards.vocabulary import (
    check_language,
    check_license,
    check_name,
    check_pipeline_tag,
    check_relation,
    language_codes,
    language_name,
    licenses,
)


@pytest.mark.parametrize("value", ["apache-2.0", "mit", "cc-by-nc-sa-4.0", "other", "openrail++", "llama3.1"])
def test_licences_of_the_hub_are_known(value):
    assert check_license(value) == value


@pytest.mark.parametrize("value", ["en", "de", "zh", "grc", "nds", "code", "multilingual"])
def test_languages_are_known(value):
    assert check_language(value) == value


def test_the_lists_are_whole():
    assert len(licenses()) == len(set(licenses())) > 70
    assert len([code for code in language_codes() if len(code) == 2]) == 184 and len(language_codes()) > 7900
    assert language_name("fr") == "French" and language_name("xyz") == "xyz"
    assert not language_codes() & {three for _, three, _ in vocabulary._two_letters()}


@pytest.mark.parametrize(
    ("check", "value", "hint"),
    [
        (check_license, "Apache-2.0", "did you mean 'apache-2.0'?"),
        (check_license, "apache2", "did you mean 'apache-2.0'?"),
        (check_license, "GPLv3", "did you mean 'gpl"),
        (check_license, "?", "choose 'other' with license_name"),
        (check_language, "english", "did you mean 'en'?"),
        (check_language, "English", "did you mean 'en'?"),
        (check_language, "eng", "did you mean 'en'?"),
        (check_language, "deu", "did you mean 'de'?"),
        (check_language, "EN", "did you mean 'en'?"),
        (check_language, "!", "for example 'en'"),
        (check_pipeline_tag, "fillmask", "did you mean 'fill-mask'?"),
        (check_relation, "finetuned", "did you mean 'finetune'?"),
        (check_relation, "distilled", "is no relation to a base model"),
        (check_name, "my model", "looks like me/my-model"),
        (check_name, "a/b/c", "looks like me/my-model"),
        (check_name, "a/b\nlicense: mit", "looks like me/my-model"),
        (check_name, "a/b)](javascript:x", "looks like me/my-model"),
    ],
)
def test_a_wrong_value_gets_one_sentence_with_the_right_one(check, value, hint):
    with pytest.raises(InputError) as caught:
        check(value)
    assert hint in str(caught.value) and repr(value)[1:-1].split("\\")[0] in str(caught.value)

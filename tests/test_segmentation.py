"""Text in parts and tokens, in any script."""

import importlib
import re
import unicodedata

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from xprnn.data import segmentation
from xprnn.data.segmentation import (
    UNSPACED,
    graphemes,
    has_marks,
    join_words,
    lines,
    sentences,
    unspaced_script,
    words,
)

# As far as this Python knows them: `regex` may know more.
EVERY = [c for c in map(chr, range(0x110000)) if unicodedata.category(c) not in {"Cn", "Cs"}]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("मैं घर जाता हूँ। वह आती है॥ हाँ", ["मैं घर जाता हूँ।", "वह आती है॥", "हाँ"]),
        ("وہ گھر گیا۔ کیوں؟ پانی ہے۔", ["وہ گھر گیا۔", "کیوں؟", "پانی ہے۔"]),
        ("أين البيت؟ هنا. نعم!", ["أين البيت؟", "هنا.", "نعم!"]),
        ("Ես գնում եմ։ Դու գալիս ես։", ["Ես գնում եմ։", "Դու գալիս ես։"]),
        ("ሰላም ነው። እንዴት ነህ፧ ደህና", ["ሰላም ነው።", "እንዴት ነህ፧", "ደህና"]),
        ("မင်္ဂလာပါ။နေကောင်းလား။", ["မင်္ဂလာပါ။", "နေကောင်းလား။"]),
        ("ខ្ញុំទៅ។ បាទ៕", ["ខ្ញុំទៅ។", "បាទ៕"]),
        ("བོད་ཡིག་ནི། སྐད་རེད།", ["བོད་ཡིག་ནི།", "སྐད་རེད།"]),
        ("他来了！！！她呢？？", ["他来了！！！", "她呢？？"]),
        ("他说：“好。”然后走了。“再见。”", ["他说：“好。”", "然后走了。", "“再见。”"]),
        ("彼は「はい。」と言った｡終", ["彼は「はい。」", "と言った｡", "終"]),
        ("価格は３．５円．安い．", ["価格は３．５円．", "安い．"]),
        ('उसने कहा, "हाँ।" फिर गया।', ['उसने कहा, "हाँ।"', "फिर गया।"]),
        ("One.\u2029Two", ["One.", "Two"]),
        ("Really‽ Yes!! No?! see a.b?c=1", ["Really‽", "Yes!!", "No?!", "see a.b?c=1"]),
    ],
)
def test_sentences_of_other_scripts(text, expected):
    assert sentences(text) == expected


def test_the_sentence_ends_are_unicodes():
    ours = re.compile(f"[{segmentation._STOPS}{segmentation._ENDS}．]")
    found = {c for c in EVERY if ours.match(c)}
    assert found - {"…", "།", "༎"} >= set(regex.findall(r"\p{STerm}", "".join(EVERY)))
    assert {unicodedata.category(c) for c in found} == {"Po"}


def test_the_scripts_without_spaces_are_unicodes():
    scripts = r"[\p{lb=SA}\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\p{Yi}]"
    theirs = {c for c in regex.findall(scripts, "".join(EVERY)) if c.isalpha()}
    ours = set(re.findall(f"[{UNSPACED}]", "".join(EVERY)))
    # Tones of Bopomofo, and the iteration marks of dead scripts, may stand inside a word.
    assert {unicodedata.category(c) for c in theirs - ours} <= {"Sk", "Lm"}
    # The marks of length belong to both scripts of Japanese.
    assert ours - set(regex.findall(scripts, "".join(EVERY))) == {"ー", "ｰ"}


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("نمی‌دانم، کتاب‌ها", ["نمی‌دانم", "،", "کتاب‌ها"]),
        ("ක්‍රියා කරයි", ["ක්‍රියා", "කරයි"]),
        ("👨‍👩‍👧 hi👍🏽!", ["👨‍👩‍👧", "hi", "👍🏽", "!"]),
        ("🇦🇹🇩🇪 🏳️‍🌈", ["🇦🇹", "🇩🇪", "🏳️‍🌈"]),
        ("🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f ok", None),
        ("1️⃣ and #️⃣", ["1️⃣", "and", "#️⃣"]),
        ("我love你。ok-go", ["我", "love", "你", "。", "ok-go"]),
        ("データ3個", ["デ", "ー", "タ", "3", "個"]),
        ("か\u3099く", ["が", "く"]),
        ("สวัสดี ครับ", ["ส", "วั", "ส", "ดี", "ค", "รั", "บ"]),
        ("ខ្ញុំ ២៥", ["ខ្ញុំ", "២៥"]),
        ("한국어 문장", ["한국어", "문장"]),
        ("L’été‌x don't", ["l’été‌x", "don't"]),
    ],
)
def test_words_by_unicodes_rules(sentence, expected):
    if expected is None:
        expected = sentence.split()
    assert words(sentence) == expected


@given(st.text(st.sampled_from("aé今ก\u0e49ิ \n\u200d👨👧🇦🇹\u0301\u0600.'-’"), max_size=20))
@settings(derandomize=True, deadline=None)
def test_no_way_of_splitting_loses_anything_but_space(text):
    normal = unicodedata.normalize("NFC", text)
    assert "".join(graphemes(text)) == normal
    lower = unicodedata.normalize("NFC", text.lower())
    assert "".join(words(text)) == "".join(lower.split())
    assert all(token and not re.search(r"\s", token) for token in words(text))


def test_lines():
    assert lines("a b\n\n  c\u2028d\r\n \ne") == ["a b", "c", "d", "e"]


def test_graphemes():
    assert graphemes("ab\n") == ["a", "b", "\n"]
    assert graphemes("นี้👩‍🚀e\u0301🇦🇹\r\n") == ["นี้", "👩‍🚀", "é", "🇦🇹", "\r\n"]


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("今天天气很好。", "Chinese"),
        ("私は猫が好きです。カタカナ", "Japanese"),
        ("ฉันไปตลาด", "Thai"),
        ("ខ្ញុំស្រឡាញ់", "Khmer"),
        ("ຂ້ອຍມັກ", "Lao"),
        ("မင်္ဂလာပါ", "Burmese"),
        ("今 is a sign that means now", None),
        ("나는 학교에 간다", None),
        ("हिन्दी में", None),
        ("123 + 4!", None),
        ("", None),
    ],
)
def test_scripts_without_spaces(text, script):
    assert unspaced_script(text) == script


def test_signs_of_several_characters():
    for text in ("ก้", "e\u0301", "👩‍🚀", "🇦🇹", "نمی‌دانم"):
        assert has_marks(text)
    for text in ("今天", "é", "abc 123", "😀"):
        assert not has_marks(text)


def test_text_without_spaces_is_joined_without_spaces():
    for text in ("他说：“好。”然后走了！", "私は猫（ねこ）が好きです。", "བོད་ཡིག་ནི།", "ขอบคุณครับ"):
        assert join_words(words(text)) == text
    assert join_words(words("我 love 你")) == "我 love 你"
    assert join_words(words("क्या है? हाँ।")) == "क्या है? हाँ।"
    assert join_words(["SENTENCE_START"]) == ""


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    def absent(name):
        raise ImportError(f"No module named {name!r}")

    segmentation._segmented_token.cache_clear()
    monkeypatch.setattr(importlib, "import_module", absent)
    # What needs no segmentation works.
    assert words("L'été, ça va?") == ["l'été", ",", "ça", "va", "?"]
    assert graphemes("abc") == ["a", "b", "c"]
    for split, text in ((words, "今天"), (words, "👨‍👩‍👧"), (graphemes, "é")):
        with pytest.raises(ImportError, match=r'pip install "xprnn\[text\]"'):
            split(text)

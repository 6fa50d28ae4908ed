"""API keys: hashed, read again when the file changes, and kept when it breaks."""

import logging
import os
import stat

import pytest

from pp_jax.service.keys import Keys, Principal, add, digest, read


def test_a_key_is_kept_as_its_hash_alone(tmp_path):
    path = tmp_path / "keys.toml"
    key = add(path, Principal("alice", budget=50))
    assert key not in path.read_text()
    assert digest(key) in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    keys = Keys(path)
    assert keys.find(key) == Principal("alice", budget=50)
    assert keys.find(key + "x") is None
    assert keys.find("") is None


def test_a_file_that_changes_is_read_again_and_one_that_breaks_is_not(tmp_path, caplog):
    path = tmp_path / "keys.toml"
    first = add(path, Principal("alice"))
    keys = Keys(path)
    second = add(path, Principal("bob", trusted=True))
    assert keys.find(second) == Principal("bob", trusted=True)
    with caplog.at_level(logging.ERROR):
        path.write_text("[alice\nbroken")
        assert keys.find(first) == Principal("alice")
        assert keys.find(second) is not None
    assert len(caplog.records) == 1
    path.unlink()
    assert keys.find(first) == Principal("alice")
    path.write_text("")
    os.utime(path, ns=(1, 1))
    assert keys.find(first) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = 3", r"a must be a table \[a\]"),
        ("[a]\nsha256 = 'x'", "sha256 of a must be 64 hexadecimal digits"),
        ("[a]\nkey = 'secret'", "unknown option 'key'"),
        ("[a]\nsha256 = 3", "sha256 of a must be str, not int"),
        (f"[a]\nsha256 = '{'0' * 64}'\nbudget = -1", "must be at least 0"),
        (f"[a]\nsha256 = '{'0' * 64}'\nbudget = true", "budget of a must be int, not bool"),
        (f"[a]\nsha256 = '{'0' * 64}'\n[b]\nsha256 = '{'0' * 64}'", "b has the key of a"),
        ("\x00", "cannot be read"),
    ],
)
def test_a_file_that_is_no_keys_file_is_refused(tmp_path, text, message):
    path = tmp_path / "keys.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        read(path)
    assert "\n" not in str(caught.value).replace(str(tmp_path), "")


def test_a_missing_file_says_how_to_make_one(tmp_path):
    with pytest.raises(ValueError, match=r"make one with python -m pp_jax\.service key NAME"):
        Keys(tmp_path / "keys.toml")


def test_a_name_is_taken_once_and_is_a_plain_word(tmp_path):
    add(tmp_path / "k.toml", Principal("alice"))
    with pytest.raises(ValueError, match="has a key for alice already"):
        add(tmp_path / "k.toml", Principal("alice"))
    for name in ("*", "a b", "a]\n[b", ""):
        with pytest.raises(ValueError, match="must be letters, digits"):
            add(tmp_path / "k.toml", Principal(name))

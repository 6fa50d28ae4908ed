"""Archives: known by their content, read without being unpacked, with sane names; what is not read says why."""

import bz2
import lzma
import random
import struct
import tarfile
import zipfile
import zlib

import pytest

from encoded import picture, tarred, zipped
from pp_jax.data import packed
from pp_jax.data.archives import stem
from pp_jax.data.files import Files, open_files
from pp_jax.data.formats import folder
from pp_jax.data.types import DataError, DatasetCorrupt

PARTS = {"A/1.png": b"one", "A/2.png": b"two", "B/1.png": b"three"}


def opened(path, data: bytes) -> Files:
    path.write_bytes(data)
    return open_files(path)


def content(files: Files) -> dict[str, bytes]:
    return {name: files.read(name) for name in files.names}


KINDS = {
    "tar": lambda: tarred(PARTS),
    "tar.gz": lambda: tarred(PARTS, "w:gz"),
    "tar.bz2": lambda: tarred(PARTS, "w:bz2"),
    "tar.xz": lambda: tarred(PARTS, "w:xz"),
    "zip, stored": lambda: zipped(PARTS, zipfile.ZIP_STORED),
    "zip, deflated": lambda: zipped(PARTS),
    "zip, bzip2": lambda: zipped(PARTS, zipfile.ZIP_BZIP2),
    "zip, LZMA": lambda: zipped(PARTS, zipfile.ZIP_LZMA),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["letters", "letters.zip", "letters.tar.gz"])
def test_the_content_says_what_an_archive_is_whatever_it_is_called(tmp_path, kind, name):
    assert content(opened(tmp_path / name, KINDS[kind]())) == PARTS


@pytest.mark.parametrize(("pack", "suffix"), [(bz2.compress, "bz2"), (lzma.compress, "xz")])
def test_a_plain_file_is_unpacked_and_keeps_its_name(tmp_path, pack, suffix):
    files = opened(tmp_path / f"data.{suffix}", pack(b"plain"))
    assert content(files) == {f"data.{suffix}": b"plain"}
    assert files.find("data") == f"data.{suffix}"


def test_windows_separators_are_folders(tmp_path):
    data = zipped({"set/A/1.png": b"one", "set/B/2.png": b"two"}).replace(b"set/A/1", b"set\\A\\1")
    assert open_files(_written(tmp_path / "w.zip", data)).names == ("set/A/1.png", "set/B/2.png")


def _written(path, data):
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("make", [zipped, tarred])
def test_names_that_lead_outside_or_are_absolute_stay_inside(tmp_path, make):
    files = opened(tmp_path / "a", make({"../../A/1.png": b"one", "/B/2.png": b"two", "./C/./3.png": b"three"}))
    assert content(files) == {"A/1.png": b"one", "B/2.png": b"two", "C/3.png": b"three"}


def test_names_from_a_mac_are_utf_8(tmp_path):
    data = bytearray(zipped({"Äpfel/1.png": b"one"}))
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.index(signature) + flags
        data[at : at + 2] = struct.pack("<H", struct.unpack_from("<H", data, at)[0] & ~0x800)
    assert opened(tmp_path / "a.zip", bytes(data)).names == ("Äpfel/1.png",)


@pytest.mark.parametrize("hard", [False, True])
def test_links_within_a_tar_lead_to_their_files(tmp_path, hard):
    target = "A/1.png" if hard else "../A/1.png"
    files = opened(tmp_path / "a.tar", tarred(PARTS, links={"C/l.png": target, "C/dead.png": "nowhere.png"}, hard=hard))
    assert content(files) == PARTS | {"C/l.png": b"one"}
    assert files.left_out == ("1 link that leads to nothing here (C/dead.png)",)


def test_links_to_folders_are_followed_and_loops_are_not(tmp_path):
    files = opened(
        tmp_path / "a.tar", tarred(PARTS, links={"C": "B", "D": "C", "A/again": "..", "E": "E", "F": "/etc"})
    )
    assert content(files) == PARTS | {"C/1.png": b"three", "D/1.png": b"three"}
    assert files.left_out == ("3 links that lead to nothing here (A/again, E, F)",)


def test_symbolic_links_in_a_zip_are_followed(tmp_path):
    link = zipfile.ZipInfo("B/l.png")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("A/1.png", b"one")
        archive.writestr(link, "../A/1.png")
    assert content(open_files(tmp_path / "a.zip")) == {"A/1.png": b"one", "B/l.png": b"one"}


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_of_a_name_that_is_there_twice_the_last_is_taken_and_told(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("A/1.png", b"old")
        archive.writestr("A/1.png", b"new")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for data in ("old", "new"):
            (tmp_path / "x").write_text(data)
            archive.add(tmp_path / "x", "A/1.png")
    for name in ("a.zip", "a.tar"):
        files = open_files(tmp_path / name)
        assert content(files) == {"A/1.png": b"new"}
        assert files.left_out == ("1 earlier version of a file that is there twice (A/1.png)",)


def test_archives_in_archives_are_folders_of_their_names(tmp_path):
    train = tarred({f"train/{name}": data for name, data in PARTS.items()}, "w:gz")
    files = opened(tmp_path / "a.zip", zipped({"set/train.tar.gz": train, "set/test.zip": zipped(PARTS)}))
    expected = {f"set/{split}/{name}": data for split in ("train", "test") for name, data in PARTS.items()}
    assert content(files) == expected
    inner = zipped(PARTS)
    for depth in range(5):
        inner = zipped({f"{depth}.zip": inner})
    assert opened(tmp_path / "deep.zip", inner).names == ("4/3/2/1.zip",)


def test_archives_in_a_folder_are_opened_unless_they_lie_unpacked_beside(tmp_path):
    (tmp_path / "train.zip").write_bytes(zipped(PARTS))
    (tmp_path / "test.tar.xz").write_bytes(tarred(PARTS, "w:xz"))
    expected = {f"{split}/{name}": data for split in ("train", "test") for name, data in PARTS.items()}
    assert content(open_files(tmp_path)) == expected
    (tmp_path / "train" / "A").mkdir(parents=True)
    (tmp_path / "train" / "A" / "1.png").write_bytes(b"own")
    files = open_files(tmp_path)
    assert content(files) == {f"test/{name}": data for name, data in PARTS.items()} | {"train/A/1.png": b"own"}
    assert files.left_out == ("1 archive that lies unpacked beside itself (train.zip)",)
    assert set(open_files(tmp_path, nested=False).names) == {"test.tar.xz", "train.zip", "train/A/1.png"}


def marked(data: bytes, local: int, central: int, value: int) -> bytes:
    """A zip archive with a 16-bit number put into every header."""
    changed = bytearray(data)
    for signature, offset in ((b"PK\x03\x04", local), (b"PK\x01\x02", central)):
        at = -1
        while (at := data.find(signature, at + 1)) >= 0:
            changed[at + offset : at + offset + 2] = struct.pack("<H", value)
    return bytes(changed)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (marked(zipped(PARTS), 6, 8, 1), "is encrypted: unpack it with its password"),
        (marked(zipped(PARTS), 8, 10, 9), "packed with Deflate64 .*unpack it and give the folder"),
        (marked(zipped(PARTS), 8, 10, 77), "packed with method 77"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(600), "is a 7z archive, which is not read"),
        (b"Rar!\x1a\x07\x01\x00" + bytes(600), "is a RAR archive, which is not read"),
        (b"<html>404 Not Found", "is not a whole archive"),
        (zipped(PARTS)[:-30], "is not a whole archive|is truncated or damaged"),
        (tarred(PARTS)[:512], "is truncated or damaged"),
        (tarred(PARTS)[: 2 * 1024], "is truncated or damaged"),
        (tarred(PARTS, "w:gz")[:-20], "is truncated or damaged"),
        (tarred(PARTS, "w:xz")[:-20], "is truncated or damaged"),
        (tarred(PARTS)[:1024] + b"\1" + tarred(PARTS)[1025:], r"is truncated or damaged \(its end is missing\)"),
    ],
)
def test_what_is_not_read_says_why_in_one_line(tmp_path, data, message):
    path = tmp_path / "set.zip"
    path.write_bytes(data)
    with pytest.raises(DatasetCorrupt, match=rf"set\.zip.* {message}") as caught:
        open_files(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [zipped({}), zipped({"A/": b""}), tarred({})])
def test_an_archive_may_hold_no_files(tmp_path, data):
    assert opened(tmp_path / "a.tar", data).names == ()


def test_zstandard_is_read_or_named(tmp_path):
    module = packed._zstd_module()
    path = tmp_path / "a.tar.zst"
    if module is None:
        path.write_bytes(b"\x28\xb5\x2f\xfd" + bytes(600))
        with pytest.raises(DatasetCorrupt, match=r"a\.tar\.zst is packed with Zstandard.*unzstd"):
            open_files(path)
    else:
        assert content(opened(path, module.compress(tarred(PARTS)))) == PARTS


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "gz"])
def test_a_bomb_is_refused_within_bounded_memory(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(packed, "_FREE", 1 << 20)
    zeros = bytes(8 << 20)
    bomb = {
        "zip": lambda: zipped({"A/1.png": zeros}),
        "tar.gz": lambda: tarred({"A/1.png": zeros}, "w:gz"),
        "gz": lambda: zlib.compress(zeros, wbits=31),
    }[kind]()
    with pytest.raises(DatasetCorrupt, match=r"unpacks to more than .* from 0\.0 MiB, as no image set does"):
        content(opened(tmp_path / "bomb", bomb))


def test_the_limit_is_64_mebibytes_or_a_hundred_times_the_archive():
    assert packed.limit(10) == 64 << 20
    assert packed.limit(1 << 30) == 100 << 30


@pytest.mark.parametrize("name", ["a.zip", "a.TAR", "a.tar.gz", "a.tgz", "a.tbz2", "a.tar.bz2", "a.txz", "a.tar.zst"])
def test_an_archives_stem(name):
    assert stem(name) == "a"
    assert stem("set/x.gz") is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_archive_is_one_error_or_whole(tmp_path, kind):
    rng = random.Random(kind)
    pixels = picture()
    whole = _pictures(kind, pixels)
    path = tmp_path / "a"
    for _ in range(40):
        data = bytearray(whole[: rng.randrange(len(whole))] if rng.random() < 0.3 else whole)
        for _ in range(rng.choice([1, 2, 9])):
            if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data)
        said = ""
        try:
            folder.read(open_files(path), 1)
        except DataError as error:
            said = str(error)
        assert "\n" not in said
        assert len(said) < 500


def _pictures(kind: str, pixels: bytes) -> bytes:
    """An archive of a kind with pictures."""
    parts = dict.fromkeys(PARTS, pixels)
    methods = {"stored": 0, "deflated": 8, "bzip2": 12, "LZMA": 14}
    if kind.startswith("zip"):
        return zipped(parts, methods[kind.removeprefix("zip, ")])
    return tarred(parts, kind.replace("tar.", "w:").replace("tar", "w"))

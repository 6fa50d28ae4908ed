"""Files of other programs and people, as they lie in the folders that a user gives."""

_NAMES = (
    *("0/results.csv", "1/results.csv", "2/weights", "3/seal.txt", "500/default/manifest.ocdbt", "7.partial/x"),
    *("a.tmp", ".b.json.12345678.tmp", "training.lock", "c.lock", ".claims/mine.lock", ".claims/1.tmp/x"),
    *("4.orbax-checkpoint-tmp/e", ".hidden/d", ".d", "records", "0123456789abcdef.partial/1/seal.json", "notes.md"),
    *("plot.png", "page.html", "table.csv", "weights.safetensors", "0123456789abcdef.safetensors", "lock"),
)


def strewn(folder):
    """Leave such files in a folder; their contents by path."""
    for name in _NAMES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"precious {name}")
    return {folder / name: f"precious {name}".encode() for name in _NAMES}


def found(paths):
    """What is there now under the same paths."""
    return {path: path.read_bytes() for path in paths}

"""Encoded pictures, and archives of them, in memory."""

import io
import tarfile
import zipfile

import numpy as np
from PIL import Image

GREY = np.arange(0, 192, 3, dtype=np.uint8).reshape(8, 8)


def picture(pixels=GREY, kind: str = "PNG", **options) -> bytes:
    """A picture (an array or Pillow's own) as a file's bytes."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def zipped(parts: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in parts.items():
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return file.getvalue()


def tarred(parts: dict[str, bytes], mode: str = "w", links: dict[str, str] | None = None, hard: bool = False) -> bytes:
    """A tar archive, with links after the files."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        for name, data in parts.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = (tarfile.LNKTYPE if hard else tarfile.SYMTYPE), target
            archive.addfile(member)
    return file.getvalue()

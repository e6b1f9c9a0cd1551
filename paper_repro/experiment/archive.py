"""Records and measures on the move: one archive from the machine that made them, merged where they
belong."""

from __future__ import annotations

import gzip
import io
import re
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from paper_repro.errors import UserError
from paper_repro.experiment import measures
from paper_repro.experiment import records as runs
from paper_repro.experiment.measures import Measured, Measures
from paper_repro.experiment.records import Record, Records
from paper_repro.files import check_target, write_bytes, write_text

__all__ = ["Merged", "export_records", "import_records", "is_archive"]

_MEMBER = re.compile(r"[A-Za-z0-9][\w-]*/[0-9a-f]{16}\.json", re.ASCII)
_MEASURE = re.compile(
    r"[A-Za-z0-9][\w-]*/measures/(?P<run>[0-9a-f]{16})\.[\w-]+-[0-9a-f]{8}\.json", re.ASCII
)
_LARGEST = 2**30  # bytes of all records together; a real one has some 100 kB


@dataclass
class Merged:
    """What an import did, as ``<profile>/<fingerprint>`` of each record in the archive.

    A measure is named like its file, ``<profile>/measures/<fingerprint>.<measure>-<id>``.

    Attributes:
        new: written, because there was none or only that of a failure.
        same: there already, with the same content.
        conflicting: left out, because there is a different finished (or diverged) record or
            measure, or because it measures a run whose record was left out for that.
        outdated: left out, because it tells of a failure and the run has a record.
    """

    new: list[str] = field(default_factory=list)
    same: list[str] = field(default_factory=list)
    conflicting: list[str] = field(default_factory=list)
    outdated: list[str] = field(default_factory=list)


#: zlib's: the fastest; records are repetitive and shrink to a sixth all the same.
_LEVEL = 1


def export_records(
    records: Records, archive: Path, profile: str | None = None, force: bool = False
) -> tuple[int, int]:
    """Write all records with their measures, or one profile's, to a .tar.gz file, or nothing.

    The same records make the same bytes. Every one is read first: a damaged one is not passed on.

    Args:
        records: where they are.
        archive: the file; an archive of records that is there is replaced.
        profile: only this one's.
        force: replace any other regular file too.

    Returns:
        the number of records, and of measures.

    Raises:
        UserError: there are none, one is damaged, or the archive cannot be written.
    """
    check_target(archive, is_archive, "an archive of records", force)
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)  # gzip, without a time
    packed: list[bytes] = []

    def pack(name: str, content: bytes) -> None:
        member = tarfile.TarInfo(name)
        member.size, member.mode = len(content), 0o644
        # By hand: tarfile and gzip copy each record in pieces, which takes longer than to pack it.
        filling = bytes(-len(content) % tarfile.BLOCKSIZE)
        packed.append(packer.compress(member.tobuf() + content + filling))

    count, taken = 0, 0
    for path in records.paths():
        if profile is None or path.parent.name == profile:
            record = runs.parse(path, content := path.read_bytes())
            pack(f"{record.config.profile}/{record.config.fingerprint}.json", content)
            count += 1
    for path in Measures(records.folder).paths():
        if profile is None or path.parent.parent.name == profile:
            measures.parse(path, content := path.read_bytes())
            pack(f"{path.parent.parent.name}/measures/{path.name}", content)
            taken += 1
    packed += [packer.compress(bytes(2 * tarfile.BLOCKSIZE)), packer.flush()]
    if not count:
        which = "records" if profile is None else f"records of the {profile} profile"
        raise UserError(f"there are no {which} under {records.folder} to export")
    try:
        write_bytes(archive, b"".join(packed))
    except OSError as error:
        raise UserError(f"{archive} cannot be written: {error.strerror}") from error
    return count, taken


def is_archive(path: Path) -> bool:
    """Whether a file looks like what :func:`export_records` writes, by its first member."""
    try:
        with tarfile.open(path, mode="r:gz") as tar:
            first = tar.next()
            return first is not None and bool(first.isreg() and _MEMBER.fullmatch(first.name))
    except (tarfile.TarError, EOFError, OSError, UnicodeError, zlib.error):
        return False


def import_records(archive: Path, records: Records) -> Merged:
    """Merge an archive's records and measures; a different one that is there is never replaced.

    Nothing is written unless the whole archive is sound: every member a record or a measure, under
    the name that its content says. Nothing is ever unpacked to a path that the archive chooses.

    Raises:
        UserError: the archive is missing, damaged, or holds anything but records and measures.
    """
    merged = Merged()
    members = list(_members(archive))
    for _, record, content in members:
        if isinstance(record, Measured):
            continue
        name = f"{record.config.profile}/{record.config.fingerprint}"
        present = records.get(record.config)
        if present == record:
            merged.same.append(name)
        elif present is None or (present.status == "failed" and record.status != "failed"):
            write_text(records.path(record.config), content)
            merged.new.append(name)
        elif record.status == "failed":
            merged.outdated.append(name)
        else:
            merged.conflicting.append(name)
    strange = set(merged.conflicting)
    for name, measured, content in members:
        if isinstance(measured, Record):
            continue
        profile, stem = name.split("/measures/")
        path = records.folder / profile / "measures" / f"{stem}.json"
        if f"{profile}/{measured.fingerprint}" in strange:  # of other weights, maybe
            merged.conflicting.append(name)
        elif not path.exists():
            write_text(path, content)
            merged.new.append(name)
        elif measures.read(path) == measured:
            merged.same.append(name)
        else:
            merged.conflicting.append(name)
    return merged


def _members(archive: Path) -> Iterator[tuple[str, Record | Measured, str]]:
    """What is in an archive, as (name, parsed, text), each validated like one on disk."""
    try:
        with gzip.open(archive) as stream:  # to its end, where gzip compares the checksum
            unpacked = stream.read(_LARGEST + 1)
        if len(unpacked) > _LARGEST:
            raise UserError(f"{archive} unpacks to more than {_LARGEST} bytes")
        with tarfile.open(fileobj=io.BytesIO(unpacked), mode="r:") as tar:
            for member in tar:
                of_a_run = _MEMBER.fullmatch(member.name)
                if not (member.isreg() and (of_a_run or _MEASURE.fullmatch(member.name))):
                    raise UserError(f"{archive} holds {member.name!r}, which is no run's record")
                file = tar.extractfile(member)
                assert file is not None  # it is a regular file
                content = file.read()
                path = Path(PurePosixPath(member.name).name)
                try:
                    found = (runs if of_a_run else measures).parse(path, content)
                except UserError as error:
                    why = str(error).removeprefix(f"{path} ")
                    raise UserError(f"{member.name} in {archive} {why}") from error
                if isinstance(found, Record):
                    profile = found.config.profile
                    if profile != PurePosixPath(member.name).parent.name:
                        raise UserError(f"{member.name} in {archive} is of the profile {profile!r}")
                yield member.name.removesuffix(".json"), found, content.decode("utf-8")
    except FileNotFoundError as error:
        raise UserError(f"there is no archive {archive}") from error
    except (tarfile.TarError, EOFError, OSError, UnicodeError, zlib.error, RecursionError) as error:
        raise UserError(f"{archive} is damaged or is no archive of records: {error}") from error

"""TOML text → a frozen pydantic model, or Malformed that names the setting, what is wrong and what was meant.

Unknown keys are refused: a misspelt setting that is silently ignored is a setting that is not in force.
"""

import difflib
import tomllib
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo

from cryptosvc.core.errors import Malformed


class Section(BaseModel):
    """A table of a configuration file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, hide_input_in_errors=True)


def from_folder(path: Path, info: ValidationInfo) -> Path:
    """For a setting that is a path: a relative one is taken from the file's own folder."""
    folder = (info.context or {}).get("folder", Path())
    return Path(folder) / path.expanduser()


FileModel = TypeVar("FileModel", bound=Section)


def read_toml(path: Path, model: type[FileModel]) -> FileModel:
    """Read the TOML file `path` as `model`; relative paths in it are taken from the file's own folder.

    Raises:
        Malformed: `config/unreadable`, `config/toml`, `config/unknown-key`, `config/missing`, `config/value`;
            `field` is the dotted name of the first setting at fault and the message names them all.

    """
    _, document = read_document(path)
    try:
        return model.model_validate(document, context={"folder": path.resolve().parent})
    except ValidationError as error:
        raise _malformed(path, model, error) from None


def read_document(path: Path) -> tuple[bytes, dict[str, Any]]:
    """Read the TOML file `path`: its octets, and the mapping they hold.

    Raises:
        Malformed: `config/unreadable`, `config/toml`.

    """
    try:
        octets = path.read_bytes()
    except OSError as error:
        raise Malformed(f"cannot read {path}: {error.strerror}", rule="config/unreadable") from None
    try:
        return octets, tomllib.loads(octets.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Malformed(f"{path} is not TOML: {error}", rule="config/toml") from None


def _malformed(path: Path, model: type[Section], error: ValidationError) -> Malformed:
    lines: list[str] = []
    rules: list[str] = []
    fields: list[str] = []
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    # a misspelt setting is also a missing one: the misspelling is what to say first
    for problem in sorted(problems, key=lambda problem: problem["type"] != "extra_forbidden"):
        field = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            rules.append("config/unknown-key")
            near = difflib.get_close_matches(str(problem["loc"][-1]), _names(model, problem["loc"][:-1]), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            lines.append(f"{field}: there is no such setting{hint}")
        elif problem["type"] == "missing":
            rules.append("config/missing")
            lines.append(f"{field}: this setting is missing")
        else:
            rules.append("config/value")
            lines.append(f"{field}: {problem['msg'].removeprefix('Value error, ')}")
        fields.append(field)
    return Malformed(f"{path}: " + "; ".join(lines), rule=rules[0], field=fields[0])


def _names(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The settings a table has, for a suggestion; `location` leads to the table, list indexes included."""
    found: list[type[BaseModel]] = [model]
    for part in location:
        if isinstance(part, int):
            continue
        found = [
            inner
            for table in found
            if part in table.model_fields
            for inner in _models_in(table.model_fields[part].annotation)
        ] or [table for table in found if table.__name__ == part]
    return [name for table in found for name in table.model_fields]


def _models_in(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in {tuple, list, dict, Union, UnionType, Annotated}:
        return [model for argument in get_args(annotation) for model in _models_in(argument)]
    return []

"""Reading what others wrote: a store, a checkpoint, a run or a config may come from a stranger or from a faulty disk.

Whatever distsae parses is read through this package: regular files alone, sizes before contents, plain names, fields of
the right type. What is wrong ends in one line that names the file and the field. Arrays are read by
`distsae.checked_files.npz`, which imports NumPy and stays out of the supervisor for that reason.
"""

from distsae.checked_files.json_text import parse_json, read_json_object
from distsae.checked_files.plain_names import is_plain, shown
from distsae.checked_files.regular_files import open_regular, read_regular, refuse_links
from distsae.checked_files.typed_fields import Between, WrongField, typed
from distsae.checked_files.yaml_text import parse_yaml, read_yaml_mapping

__all__ = [
    "Between",
    "WrongField",
    "is_plain",
    "open_regular",
    "parse_json",
    "parse_yaml",
    "read_json_object",
    "read_regular",
    "read_yaml_mapping",
    "refuse_links",
    "shown",
    "typed",
]

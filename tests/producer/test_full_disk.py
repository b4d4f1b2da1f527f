import errno
from pathlib import Path

import pytest

from distsae.errors import CannotContinue
from distsae.producer.full_disk import one_line_if_disk_full
from distsae.store import location


@pytest.mark.parametrize(("number", "advice"), [(errno.ENOSPC, "make room: "), (errno.EDQUOT, "your quota on")])
@pytest.mark.parametrize(("root", "where"), [(Path("stores/a"), "for the store;"), (location("s3://b/a"), "uploaded;")])
def test_a_full_disk_is_named_with_what_to_do(number, advice, root, where):
    message = rf"`out` \(={root}\) .*{where} got a full disk; {advice}.*; then run it again"
    with pytest.raises(CannotContinue, match=message), one_line_if_disk_full(root):
        raise OSError(number, "no space")


def test_other_errors_pass_through():
    with pytest.raises(PermissionError), one_line_if_disk_full(Path("a")):
        raise PermissionError(errno.EACCES, "permission denied")

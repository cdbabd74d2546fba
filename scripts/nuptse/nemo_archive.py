"""NeMo models as files: tar archives that end in ``.nemo``."""

from __future__ import annotations

from pathlib import Path

from nuptse.archive_members import damage_is_a_user_error, parts_inside, tar_members
from nuptse.errors import UserError

NEMO_MEMBERS = ("model_config.yaml", "model_weights.ckpt")  # of nemo.core.connectors.SaveRestoreConnector


def check_nemo_archive(path: Path) -> None:
    """Check that ``path`` is a whole, harmless NeMo model: a tar (plain or gzip) with ``NEMO_MEMBERS`` at its top.

    Raises:
        UserError: no tar, cut short, a link, device or name that escapes, a name that comes twice, a member missing.
    """
    names: set[str] = set()
    with damage_is_a_user_error(path):
        for name, _ in tar_members(path):
            inside = "/".join(parts_inside(path, name))
            if inside and inside in names:
                raise UserError(f"{path}: member {name!r} comes twice; this is not a model that NeMo saved")
            names.add(inside)
    for expected in NEMO_MEMBERS:
        if expected not in names:
            raise UserError(f"{path}: no member {expected}; a NeMo model holds {' and '.join(NEMO_MEMBERS)}")

"""Camera poses as sensors leave them in files: rounded, lost or wrong."""

from __future__ import annotations

import numpy as np

# Float32 and six printed decimals keep a rotation orthonormal to about 1e-6; 1e-3 forgives coarser prints.
ROTATION_TOLERANCE = 1e-3


def clean_poses(raw: np.ndarray) -> tuple[np.ndarray, dict[str, int]]:
    """Nearest rigid motions to rounded poses, NaN where there is none.

    Lost tracking is written as -inf in all entries by ScanNet, as zeros by other tools (ScanNet's own point-cloud
    code tests m[0][0] == 0; a true rotation may have a zero there, so only a matrix that is not a rotation counts).

    Args:
        raw: (N, 4, 4) camera-to-world matrices.

    Returns:
        poses: (N, 4, 4) float64, orthonormal rotations; all-NaN where tracking was lost or the matrix is no
            rigid motion.
        defects: counts of "lost_tracking" and "invalid_pose", absent where zero.
    """
    raw = np.asarray(raw, dtype=np.float64).reshape(-1, 4, 4)
    finite = np.isfinite(raw).all(axis=(1, 2))
    rigid = np.zeros(len(raw), dtype=bool)
    R = raw[finite][:, :3, :3]
    rigid[finite] = (
        (np.abs(R @ R.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2), initial=0) <= ROTATION_TOLERANCE)
        & (np.linalg.det(R) > 0)
        & (np.abs(raw[finite][:, 3] - (0, 0, 0, 1)).max(axis=1, initial=0) <= ROTATION_TOLERANCE)
    )
    lost = ~finite | (~rigid & (raw[:, 0, 0] == 0))

    poses = np.full(raw.shape, np.nan)
    u, _, vt = np.linalg.svd(raw[rigid][:, :3, :3])
    clean = np.tile(np.eye(4), (len(u), 1, 1))
    clean[:, :3, :3] = u @ vt
    clean[:, :3, 3] = raw[rigid][:, :3, 3]
    poses[rigid] = clean
    counts = {"lost_tracking": int(lost.sum()), "invalid_pose": int((~lost & ~rigid).sum())}
    return poses, {reason: count for reason, count in counts.items() if count}

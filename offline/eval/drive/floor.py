"""How far it is to drive over the free floor."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra

from sim.robot.obstacles import CELL

_STEPS = ((0, 1, 1.0), (1, 0, 1.0), (1, 1, np.sqrt(2.0)), (1, -1, np.sqrt(2.0)))


def ways(free: np.ndarray, places: np.ndarray) -> np.ndarray:
    """(X, Y) length of the shortest 8-connected way over free cells from each cell to the nearest of (N, 2) places
    [m]; infinite where there is none."""
    cells = np.unique((np.asarray(places).reshape(-1, 2) / CELL).astype(int), axis=0)
    inside = (cells >= 0).all(axis=1) & (cells < free.shape).all(axis=1)
    cells = cells[inside]
    sources = np.ravel_multi_index(tuple(cells.T), free.shape) if len(cells) else np.zeros(0, int)
    sources = sources[free.ravel()[sources]]
    if not len(sources):
        return np.full(free.shape, np.inf)
    numbers = np.arange(free.size).reshape(free.shape)
    rows, columns, lengths = [], [], []
    for dx, dy, length in _STEPS:
        a = (slice(0, free.shape[0] - dx), slice(max(0, -dy), free.shape[1] - max(0, dy)))
        b = (slice(dx, free.shape[0]), slice(max(0, dy), free.shape[1] - max(0, -dy)))
        both = free[a] & free[b]
        rows.append(numbers[a][both])
        columns.append(numbers[b][both])
        lengths.append(np.full(len(rows[-1]), length * CELL))
    edges = coo_matrix(
        (np.concatenate(lengths), (np.concatenate(rows), np.concatenate(columns))), shape=(free.size, free.size)
    )
    return dijkstra(edges.tocsr(), directed=False, indices=sources, min_only=True).reshape(free.shape)


def at(field: np.ndarray, place: np.ndarray | tuple[float, float]) -> float:
    """The value of the best cell around a place (2,): the place itself may be nearer to an obstacle than ways lead."""
    x, y = (np.asarray(place) / CELL).astype(int)
    around = field[max(0, x - 2) : x + 3, max(0, y - 2) : y + 3]
    return float(around.min()) if around.size else np.inf


def nearest_free(free: np.ndarray, place: tuple[float, float]) -> np.ndarray:
    """(2,) middle of the free cell nearest to a place [m]; (0, 2) if none is free."""
    places = (np.argwhere(free) + 0.5) * CELL
    return places[np.linalg.norm(places - place, axis=1).argmin()] if len(places) else places

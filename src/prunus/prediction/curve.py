"""How long a linear layer takes by the share of its weights that is kept."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Curve:
    """Measured seconds of one linear layer, in one pattern and at one number of tokens.

    Between two measured densities it is a straight line, since a kernel's time is what it does for
    each nonzero, plus what it does once for each row; outside of them the nearest line
    goes on, but not below half of the fastest measurement.

    Attributes:
        densities: Shares of the weights that are kept, rising.
        seconds: One for each.
    """

    densities: tuple[float, ...]
    seconds: tuple[float, ...]

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in zip(self.densities, self.densities[1:], strict=False))
        if not self.densities or len(self.densities) != len(self.seconds) or not rising:
            raise ValueError(
                f"densities {self.densities} and seconds {self.seconds}: expected two equally long "
                "rows, the first rising"
            )

    def at(self, sparsity: float) -> float:
        """Seconds at this share of zeros."""
        density = 1 - sparsity
        if len(self.densities) == 1:
            return self.seconds[0]
        right = min(max(bisect_left(self.densities, density), 1), len(self.densities) - 1)
        low, high = self.densities[right - 1], self.densities[right]
        fast, slow = self.seconds[right - 1], self.seconds[right]
        found = fast + (slow - fast) * (density - low) / (high - low)
        return max(found, 0.5 * min(self.seconds))

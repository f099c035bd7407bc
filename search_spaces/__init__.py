"""Search spaces: ranges only, one YAML a paper, a section a system; and their loader."""

from search_spaces.space import (
    BEST_MEMBERS,
    Parameter,
    SearchSpace,
    learner_space,
    load,
    parse_parameter,
)

__all__ = [
    "BEST_MEMBERS",
    "Parameter",
    "SearchSpace",
    "learner_space",
    "load",
    "parse_parameter",
]

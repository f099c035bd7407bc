"""Search spaces: ranges only, one YAML a paper, a section a system; and their loader."""

from search_spaces.space import Parameter, SearchSpace, load, parse_parameter

__all__ = ["Parameter", "SearchSpace", "load", "parse_parameter"]

"""Search spaces: ranges only, one YAML a paper, a section a system; and the loader that checks them."""

from search_spaces.space import Parameter, SearchSpace, load, parse_parameter

__all__ = ["Parameter", "SearchSpace", "load", "parse_parameter"]

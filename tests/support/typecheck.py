"""The check of types that `conftest` puts around every function of `jcl`."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
"""As PEP 484 has it, an int will do where a float is asked for."""

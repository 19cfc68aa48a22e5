"""The checker of signatures while tests run: shapes by jaxtyping, types by beartype; an int is accepted as a float."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))

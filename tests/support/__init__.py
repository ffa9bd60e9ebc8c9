"""What tests share; no test is in here."""

from support import typecheck as typecheck  # found by jaxtyping's hook as an attribute

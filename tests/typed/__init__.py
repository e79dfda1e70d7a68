"""What a type checker must say of programs that use the public names; `mypy` checks these files as configured."""

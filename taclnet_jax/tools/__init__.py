"""Commands beside the modes of `taclnet_jax.main`: `python -m taclnet_jax.tools.NAME`."""

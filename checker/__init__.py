"""The independent checker: whether payments were lost or doubled, by evidence that the product does not judge itself.

It imports nothing of the product. It reads what clients and receivers wrote down themselves (`log`), what the
operator or harness did (`timeline`), and every region's database by SQL (`databases`), and holds them against each
other (`messages`, `payments`, `history`, `times`). `python -m checker --help` says how it is called.
"""

"""What is scored."""

TITLES = {'P': 'P', 'P_hat': 'P_hat', 'P_closed': 'P, closed', 'P_hat_closed': 'P_hat, closed'}
"""P and P_hat, as they are and with `close_membranes`; what tables call them."""

MAPS = tuple(TITLES)
CLOSED_MAPS = ('P_closed', 'P_hat_closed')

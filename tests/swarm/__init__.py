"""Rolling updates in a real Swarm, under load: ``make test-swarm``.

# Layout

``__main__`` what is run · ``strategies`` the rows of the table · ``measure`` one row · ``engine`` Docker of our own ·
``images`` what is deployed · ``starts`` what must not start ·
``witness`` what the node saw · ``load`` publishers and subscribers, in a container ·
``figures`` what the ledger and the streams say · ``report`` the table · ``picture`` a time line
"""

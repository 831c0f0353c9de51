"""What functions are made of: components and readings that more than one function of the catalogue holds.

Above `wire`, because they know protocols; below `functions`, because each of those is a network function with a manual
and these are not.  Library code in the language, nothing else: a function of your own holds them the same way.

    outside         which outside addresses there are, as people write them
    reading         from a frame to what state is kept about: addresses, protocol, ports, place in a fragment train
    connections     the connections seen so far: states, windows, timers, quotas
    bindings        under which outside address and port an inside endpoint is seen
    classifier      which of thousands of rules a packet meets first
    rules           rules as people write them
    station         where a function's own addresses are, and that it is there

Reasons to drop that are declared here are numbered from 128, out of the way of a function's own.
"""

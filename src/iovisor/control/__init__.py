"""From what is wanted to what is: plan, apply, confirm, roll back, mend; the daemon, and its REST API.

    platform        the whole: one host's networks, made what their documents say
    catalogue, kinds  which functions there are: ours, and authors'
    sandbox         where the code of authors runs
    configured      configurations, read against what a kind declares
    lowering        a document to a shape: numbers for ports, devices for endpoints
    shape, commit   what stands and what is wanted, the steps between, and how they are taken
    hosted          a network in a thread of its own
    memory          what functions have learned, out and in
    quotas          what tenants may have; footprint how much of the kernel's memory a table may take
    peers           gateways between networks
    actions         what may be called on a function
    records         tenants, networks and their revisions, in the store
    access          who asks, and what they may do
    events          news for listeners
    problems        what goes wrong, as it is told
"""

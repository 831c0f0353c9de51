"""From what is wanted to what is: plan, apply, confirm, roll back, mend; the daemon, and its REST API.

    platform        the whole: one host's networks, made what their documents say
    kinds           which functions there are; the one place where their code comes in
    configured      configurations, read against what a kind declares
    lowering        a document to a shape: numbers for ports, devices for endpoints
    shape, commit   what stands and what is wanted, the steps between, and how they are taken
    hosted          a network in a thread of its own
    memory          what functions have learned, out and in
    records         tenants, networks and their revisions, in the store
    access          who asks, and what they may do
    events          news for listeners
    problems        what goes wrong, as it is told
"""

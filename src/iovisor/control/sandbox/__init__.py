"""Functions of somebody else: their code runs in processes of its own, and nowhere else.

    workshop      a file is read: imported, described, compiled, in a process that ends with the answer
    attendant     the slow path of one instance, in a process that lives as long as the instance
    standin       what the daemon has in place of the class: its declarations and images, and none of its code
    importing     how a module of an author's comes to be one of stand-ins
    description   declarations as data, out of the process and back into specifications
    sealing       which programs may be loaded at all, and what is put at their end
    confinement   the walls: namespaces, limits
    seccomp       the wall towards the kernel
    channel       messages between the daemon and its workers
    worker        what runs inside
    rooms         tables, seen from inside

Three invariants.  *The daemon never imports, compiles or unpickles anything of an author's*: what comes out of a worker
is JSON, of a bounded size, and every field of it is read as if it had been forged, because once an author's code runs
in there all that the worker says may be the author's.  *An image that passes `sealing` can do no more than the
language could*: it can reach its own tables and ports and nothing else of the machine's.  And *the data path does not
know of workers*: one that hangs, dies or floods is ended and begun again, while packets go on.

Rejected: workers that have the tables' descriptors (in a user namespace bpf(2) answers EPERM, and a descriptor to an
array of programs would be one too many); a compiler that reads files without importing them (names stand for objects in
this language, and objects come from importing); trusting what a *sandboxed* compiler answers (it shares its process
with the author).
"""

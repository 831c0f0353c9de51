"""The compiler: a network function to an image, with no kernel in sight.

`source` finds text and names, `build` and `expressions` make the typed representation of `ir`, `check` proves it,
`llvm` prints it, `backend` runs LLVM in a child process, `image` is what comes out, `cache` keeps it.
"""

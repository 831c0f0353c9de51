/* Where the programs under measurement send their packets, and the baseline that is subtracted. It puts the port back,
 * because BPF_PROG_TEST_RUN runs the same packet again. */
#include "nf.h"

#ifdef TC
__attribute__((section("tc"), used)) int ingress(struct context *ctx) {
    ctx->cb[0] = 0;
    return DROPPED;
}
#else
__attribute__((section("xdp"), used)) int ingress(struct context *ctx) {
    struct travels *seen = travels();
    if (seen)
        seen->port = 0;
    return DROPPED;
}
#endif

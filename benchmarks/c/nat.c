/* The ingress of benchmarks/functions/nat.py, by hand. */
#include "nf.h"

enum { NOT_TRANSLATABLE = 16, UNKNOWN };
enum { TCP = 6, UDP = 17, OUTSIDE = 1, NEAR = 94 };

struct source { u32 address; u16 port; u8 protocol, padding; };
struct mapping { u32 address; u16 port; u16 padding; };

extern const struct { u64 flags; } config;
extern char mappings, translated;

INLINE u64 fold(u64 sum) {
    sum = (sum & 0xffff) + (sum >> 16);
    return (sum & 0xffff) + (sum >> 16);
}

/* HC' = ~(~HC + ~m + m'), RFC 1624, on the bytes as they lie; `change` is the sum of ~m and m'. */
INLINE u16 adjusted(u16 old, u64 change) {
    u64 sum = (u16)~old + change;
    return ~fold(fold(sum));
}

INLINE u32 translate(struct context *ctx, u32 shift, u32 length) {
    u8 *eth = (u8 *)(u64)ctx->data, *end = (u8 *)(u64)ctx->data_end, *ip, *transport;
    struct source key = {};
    struct mapping *mapping;
    u32 header, old, fresh;
    u16 old_port, fresh_port;
    u64 addresses, ports;
    if (eth + shift + 14 > end)
        return drop(TRUNCATED);
    eth += shift;
    if (*(u16 *)(eth + 12) != SWAP16(0x0800))
        return drop(NOT_TRANSLATABLE);
    if (eth + 34 > end)
        return drop(TRUNCATED);
    ip = eth + 14;
    header = (ip[0] & 15) * 4;
    if (ip[0] >> 4 != 4 || header < 20 || SWAP16(*(u16 *)(ip + 2)) < header || *(u16 *)(ip + 6) & SWAP16(0x3fff))
        return drop(NOT_TRANSLATABLE);
    key.protocol = ip[9];
    transport = ip + header;
    asm volatile("" : "+r"(transport));     /* one pointer, or what the verifier learns of one is lost for the other */
    if ((key.protocol != TCP && key.protocol != UDP) || transport + 8 > end)
        return drop(NOT_TRANSLATABLE);
    old = *(u32 *)(ip + 12);
    old_port = *(u16 *)transport;
    key.address = __builtin_bswap32(old);
    key.port = SWAP16(old_port);
    mapping = map_lookup(&mappings, &key);
    if (!mapping)
        return drop(UNKNOWN);
#ifdef TC
    if (key.protocol == TCP && transport + 20 > end)
        return drop(TRUNCATED);
#else
    u16 *sum = (u16 *)(transport + 6);
    if (key.protocol == TCP) {
        if (transport + 20 > end)
            return drop(TRUNCATED);
        sum = (u16 *)(transport + 16);
    }
    asm volatile("" : "+r"(sum));           /* the verifier does not remember that a protocol is not TCP */
#endif
    fresh = __builtin_bswap32(mapping->address);
    fresh_port = SWAP16(mapping->port);
    addresses = (u64)~old + fresh;
    ports = (u64)(u16)~old_port + fresh_port;
    *(u32 *)(ip + 12) = fresh;
    *(u16 *)(ip + 10) = adjusted(*(u16 *)(ip + 10), addresses);
    *(u16 *)transport = fresh_port;
#ifdef TC
    u32 at = 14 + header + (key.protocol == TCP ? 16 : 6);
    u64 zero = key.protocol == TCP ? 0 : 0x20;
    l4_csum_replace(ctx, at, 0, (u32)addresses + (addresses >> 32), 0x10 | zero);
    l4_csum_replace(ctx, at, 0, ports, zero);
#else
    if (key.protocol == TCP)
        *sum = adjusted(*sum, addresses + ports);
    else if (*sum)
        *sum = adjusted(*sum, addresses + ports) ?: 0xffff;
#endif
    count(&translated, 0, length);
    return forward(OUTSIDE);
}

#ifdef TC
__attribute__((section("tc"), used)) int ingress(struct context *ctx) {
    u64 flags = config.flags;
    settle(ctx, flags);
    pull(ctx, NEAR);
    return finish(ctx, flags, translate(ctx, 0, ctx->len));
}
#else
__attribute__((section("xdp"), used)) int ingress(struct context *ctx) {
    u32 tag = tag_size((u8 *)(u64)ctx->data, (u8 *)(u64)ctx->data_end);
    return finish(ctx, config.flags, 0, translate(ctx, tag, frame_length(ctx) - tag));
}
#endif

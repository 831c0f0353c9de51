/* The ingress of iovisor.functions.acl, by hand. */
#include "nf.h"

enum {
    RULE = 16, DEFAULT, RESOLUTION, OTHER, MALFORMED, FRAGMENTED, TINY_FRAGMENT, OVERLAPPING_FRAGMENT, SOURCE_ROUTED,
    TOO_MANY_HEADERS, NESTED_TAGS
};
enum { MOST = 64, ANY = 256, BY_DEFAULT = 2 * MOST, BY_RESOLUTION, BY_OTHER, OUT = 1, IN = 2, MOST_EXTENSIONS = 6 };
enum { ICMP = 1, TCP = 6, UDP = 17, ROUTING = 43, FRAGMENT = 44, AUTHENTICATION = 51, ICMP6 = 58, SCTP = 132 };
enum { IPV4 = 0x0800, ARP = 0x0806, IPV6 = 0x86dd, NEAR = 58, FAR = 0x3fff };

struct rule {
    u64 source[2], source_mask[2], destination[2], destination_mask[2];
    u16 family, protocol, first_from, first_to, second_from, second_to;
    u8 flags, flags_mask, selective, directions, action, counter;
};

extern const struct { u64 flags; u32 otherwise, resolution, other, fragments; } config;
extern char rules, active, hits;

#ifdef TC
/* `size` bytes at `offset`, made linear if they are not. */
INLINE u8 *reach(struct context *ctx, u32 shift, u64 offset, u32 size) {
    u64 at = bounded(offset, FAR);
    u8 *data = (u8 *)(u64)ctx->data + at;
    if (unlikely(data + size > (u8 *)(u64)ctx->data_end)) {
        pull_data(ctx, at + size);
        data = (u8 *)(u64)ctx->data + at;
        if (data + size > (u8 *)(u64)ctx->data_end)
            return 0;
    }
    return data;
}
#else
INLINE u8 *reach(struct context *ctx, u32 shift, u64 offset, u32 size) {
    u8 *data = (u8 *)(u64)ctx->data + shift + bounded(offset, FAR);
    return data + size > (u8 *)(u64)ctx->data_end ? 0 : data;
}
#endif

INLINE u32 decide(u32 length, u32 port, u32 action, u32 counter, u32 reason) {
    count(&hits, counter, length);
    return action ? forward(port == 0) : drop(reason);
}

INLINE int is_extension(u32 protocol) {
    return protocol == 0 || protocol == ROUTING || protocol == FRAGMENT || protocol == AUTHENTICATION ||
           protocol == 60 || protocol == 135 || protocol == 139 || protocol == 140;
}

INLINE s64 least(u32 protocol) {
    switch (protocol) {
    case TCP:
        return 20;
    case SCTP:
        return 12;
    case UDP:
    case ICMP:
    case ICMP6:
        return 8;
    }
    return 0;
}

INLINE u32 filter(struct context *ctx, u32 shift, u32 length, u32 port) {
    u8 *eth = (u8 *)(u64)ctx->data, *end = (u8 *)(u64)ctx->data_end, *ip;
    u64 source[2] = {}, destination[2] = {}, offset = 14;
    s64 room = (s64)length - 14, payload;
    u32 protocol, fragment_offset = 0, more = 0, hops, first = 0, second = 0, flags = 0, direction, *head, slots, from;
    u16 kind;
    if (eth + 14 + shift > end)
        return drop(TRUNCATED);
    eth += shift;
    kind = *(u16 *)(eth + 12);
    if (kind == SWAP16(TPID_CUSTOMER) || kind == SWAP16(TPID_SERVICE)) {
        if (eth + 18 > end)
            return drop(TRUNCATED);
        kind = *(u16 *)(eth + 16);
        room -= 4;
        offset = 18;
        if (kind == SWAP16(TPID_CUSTOMER) || kind == SWAP16(TPID_SERVICE))
            return drop(NESTED_TAGS);
    }
    ip = eth + offset;
    kind = SWAP16(kind);
    if (kind == IPV4) {
        u32 header, total, word;
        if (ip + 20 > end)
            return drop(TRUNCATED);
        header = (ip[0] & 15) * 4;
        total = SWAP16(*(u16 *)(ip + 2));
        if (ip[0] >> 4 != 4 || header < 20 || total < header || total > room)
            return drop(MALFORMED);
        hops = ip[8];
        protocol = ip[9];
        word = SWAP16(*(u16 *)(ip + 6));
        fragment_offset = word & 0x1fff;
        more = word & 0x2000;
        source[1] = __builtin_bswap32(*(u32 *)(ip + 12));
        destination[1] = __builtin_bswap32(*(u32 *)(ip + 16));
        payload = total - header;
        offset += header;
    } else if (kind == IPV6) {
        if (ip + 40 > end)
            return drop(TRUNCATED);
        payload = SWAP16(*(u16 *)(ip + 4));
        if (ip[0] >> 4 != 6 || payload + 40 > room)
            return drop(MALFORMED);
        hops = ip[7];
        protocol = ip[6];
        source[0] = __builtin_bswap64(*(u64 *)(ip + 8));
        source[1] = __builtin_bswap64(*(u64 *)(ip + 16));
        destination[0] = __builtin_bswap64(*(u64 *)(ip + 24));
        destination[1] = __builtin_bswap64(*(u64 *)(ip + 32));
        offset += 40;
        #pragma clang loop unroll(disable)
        for (int i = 0; i < MOST_EXTENSIONS && is_extension(protocol); i++) {
            u8 *header;
            u64 size;
            if (protocol == FRAGMENT) {
                u32 word;
                if (!(header = reach(ctx, shift, offset, 8)))
                    return drop(TRUNCATED);
                word = SWAP16(*(u16 *)(header + 2));
                protocol = header[0];
                fragment_offset = word >> 3;
                more = word & 1;
                payload -= 8;
                offset += 8;
                if (fragment_offset)
                    break;
                continue;
            }
            if (protocol == ROUTING) {
                if (!(header = reach(ctx, shift, offset, 4)))
                    return drop(TRUNCATED);
                if (header[2] == 0 && header[3] != 0)
                    return drop(SOURCE_ROUTED);
            } else if (!(header = reach(ctx, shift, offset, 2)))
                return drop(TRUNCATED);
            size = protocol == AUTHENTICATION ? header[1] * 4 + 8 : header[1] * 8 + 8;
            protocol = header[0];
            offset += size;
            payload -= size;
        }
        if (!fragment_offset && is_extension(protocol))
            return drop(TOO_MANY_HEADERS);
    } else if (kind == ARP)
        return decide(length, port, config.resolution, BY_RESOLUTION, RESOLUTION);
    else
        return decide(length, port, config.other, BY_OTHER, OTHER);

    if (fragment_offset || more) {
        if (config.fragments)
            return drop(FRAGMENTED);
        if (fragment_offset == 1 && protocol == TCP)
            return drop(OVERLAPPING_FRAGMENT);
    }
    if (!fragment_offset) {
        u8 *transport;
        if (payload < least(protocol))
            return drop(more ? TINY_FRAGMENT : MALFORMED);
        switch (protocol) {
        case TCP:
            if (!(transport = reach(ctx, shift, offset, 20)))
                return drop(TRUNCATED);
            flags = transport[13];
            goto ports;
        case UDP:
        case SCTP:
            if (!(transport = reach(ctx, shift, offset, 8)))
                return drop(TRUNCATED);
        ports:
            first = SWAP16(*(u16 *)transport);
            second = SWAP16(*(u16 *)(transport + 2));
            break;
        case ICMP:
        case ICMP6:
            if (!(transport = reach(ctx, shift, offset, 8)))
                return drop(TRUNCATED);
            first = transport[0];
            second = transport[1];
            if (protocol == ICMP6 && (first == 135 || first == 136) && hops == 255 && !more)
                return decide(length, port, config.resolution, BY_RESOLUTION, RESOLUTION);
        }
    }

    direction = port == 0 ? OUT : IN;
    u32 zero = 0;
    head = map_lookup(&active, &zero);
    if (!head)
        return drop(ABSENT);
    from = *head >> 8;
    slots = *head & 0xff;
    if (slots > MOST)
        slots = MOST;
    #pragma clang loop unroll(disable)
    for (u32 i = 0; i < slots; i++) {
        u32 slot = from + i;
        struct rule *rule = map_lookup(&rules, &slot);
        if (!rule)
            return drop(ABSENT);
        if (!(rule->directions & direction) || (rule->family && rule->family != kind))
            continue;
        if (rule->protocol != ANY && rule->protocol != protocol)
            continue;
        if (((source[0] ^ rule->source[0]) & rule->source_mask[0]) |
            ((source[1] ^ rule->source[1]) & rule->source_mask[1]) |
            ((destination[0] ^ rule->destination[0]) & rule->destination_mask[0]) |
            ((destination[1] ^ rule->destination[1]) & rule->destination_mask[1]))
            continue;
        if (rule->selective) {
            if (fragment_offset) {
                if (!rule->action)
                    continue;
            } else if (first < rule->first_from || first > rule->first_to || second < rule->second_from ||
                       second > rule->second_to || ((flags ^ rule->flags) & rule->flags_mask))
                continue;
        }
        return decide(length, port, rule->action, rule->counter, RULE);
    }
    return decide(length, port, config.otherwise, BY_DEFAULT, DEFAULT);
}

#ifdef TC
__attribute__((section("tc"), used)) int ingress(struct context *ctx) {
    u64 flags = config.flags;
    settle(ctx, flags);
    pull(ctx, NEAR);
    return finish(ctx, flags, filter(ctx, 0, ctx->len, PORT(ctx)));
}
#else
__attribute__((section("xdp"), used)) int ingress(struct context *ctx) {
    struct travels *seen = travels();
    u32 tag = tag_size((u8 *)(u64)ctx->data, (u8 *)(u64)ctx->data_end);
    if (!seen)
        return ABORTED;
    return finish(ctx, config.flags, seen, filter(ctx, tag, frame_length(ctx) - tag, seen->port));
}
#endif

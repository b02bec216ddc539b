/* The header by which a publisher marks a message so that it is stored once: Nats-Msg-Id. */
#ifndef MIDGE_STORAGE_MESSAGE_ID_H
#define MIDGE_STORAGE_MESSAGE_ID_H

#include <stdint.h>
#include <string.h>

/* Where the id lies in a header block as on the wire, its length in *id_bytes; NULL: it has none. */
static inline const uint8_t *message_id_of(const uint8_t *headers, uint32_t headers_bytes, uint32_t *id_bytes) {
    static const char name[] = "\r\nNats-Msg-Id:";
    if (headers_bytes == 0) return NULL;
    const uint8_t *end = headers + headers_bytes;
    const uint8_t *found = memmem(headers, headers_bytes, name, sizeof name - 1);
    if (found == NULL) return NULL;
    found += sizeof name - 1;
    while (found < end && *found == ' ') found++;
    const uint8_t *stop = memchr(found, '\r', (size_t)(end - found));
    *id_bytes = (uint32_t)((stop != NULL ? stop : end) - found);
    return *id_bytes ? found : NULL;
}

#endif

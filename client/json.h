// Machine output: protocol messages as JSON.
#ifndef HALFTONE_CLIENT_JSON_H_
#define HALFTONE_CLIENT_JSON_H_

#include <google/protobuf/message.h>

#include <nlohmann/json.hpp>

namespace halftone {

// Keys are ordered as they were added.
using Json = nlohmann::ordered_json;

// Field names as in the .proto. Every plain field is present, also with its default; messages,
// oneofs and optional fields only when set. Numbers stay numbers (64-bit ones too), a Duration is
// seconds, a Timestamp is RFC 3339, an enum is its name, bytes are left out.
Json ToJson(const google::protobuf::Message& message);

}  // namespace halftone

#endif  // HALFTONE_CLIENT_JSON_H_

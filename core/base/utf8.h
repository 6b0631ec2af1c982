// Text whose encoding nobody checked yet.
#ifndef HALFTONE_CORE_BASE_UTF8_H_
#define HALFTONE_CORE_BASE_UTF8_H_

#include <string>

#include "absl/strings/string_view.h"

namespace halftone {

// `text` with '?' for every byte that is not UTF-8. Names in a model are any bytes; protobuf, JSON
// and browsers refuse a whole message for one bad string.
std::string Utf8(absl::string_view text);

}  // namespace halftone

#endif  // HALFTONE_CORE_BASE_UTF8_H_

// The version of this program.
#ifndef HALFTONE_SERVER_VERSION_H_
#define HALFTONE_SERVER_VERSION_H_

namespace halftone {

inline constexpr char kVersion[] = "0.1.0";

}  // namespace halftone

#endif  // HALFTONE_SERVER_VERSION_H_

#include "core/exec/program.h"

namespace halftone {

dnnl::memory Binding::Memory(const dnnl::memory::desc& desc, BufferId id, int64_t byte_offset) {
  // An input buffer has no address before the first run.
  std::byte* p = pointers_[id] == nullptr ? nullptr : pointers_[id] + byte_offset;
  dnnl::memory m(desc, stream_.get_engine(), p);
  followers_.push_back({id, byte_offset, m});
  return m;
}

void Binding::SetPointer(BufferId id, std::byte* p) {
  if (pointers_[id] == p) return;
  pointers_[id] = p;
  for (Follower& f : followers_) {
    if (f.buffer == id) f.memory.set_data_handle(p + f.byte_offset);
  }
}

}  // namespace halftone

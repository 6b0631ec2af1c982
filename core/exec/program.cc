#include "core/exec/program.h"

namespace halftone {

dnnl::memory Binding::Memory(const dnnl::memory::desc& desc, BufferId id) {
  dnnl::memory m(desc, stream_.get_engine(), pointers_[id]);
  followers_.emplace_back(id, m);
  return m;
}

void Binding::SetPointer(BufferId id, std::byte* p) {
  if (pointers_[id] == p) return;
  pointers_[id] = p;
  for (auto& [follower, memory] : followers_) {
    if (follower == id) memory.set_data_handle(p);
  }
}

}  // namespace halftone

#include "core/base/thread_priority.h"

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "absl/log/log.h"

namespace halftone {

void LowerPriorityOfThisThread() {
  const id_t thread = static_cast<id_t>(syscall(SYS_gettid));
  if (setpriority(PRIO_PROCESS, thread, 10) != 0) PLOG(WARNING) << "setpriority";
}

}  // namespace halftone

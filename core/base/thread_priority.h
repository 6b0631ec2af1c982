// Which threads go first when cores are short.
#ifndef HALFTONE_CORE_BASE_THREAD_PRIORITY_H_
#define HALFTONE_CORE_BASE_THREAD_PRIORITY_H_

namespace halftone {

// For work in the background: live traffic goes first. Threads that the calling one starts from
// here on inherit it. Logs when the system refuses.
void LowerPriorityOfThisThread();

}  // namespace halftone

#endif  // HALFTONE_CORE_BASE_THREAD_PRIORITY_H_

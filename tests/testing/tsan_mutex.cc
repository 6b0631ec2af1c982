// Debian's Abseil is not built with ThreadSanitizer, which therefore does not see what absl::Mutex,
// Notification and BlockingCounter order: every access under one would look like a race. The linker
// sends our calls here (--wrap in cmake/Halftone.cmake), where they are announced. Empty in other
// builds. Symbols are those of the inline namespace of Debian 13.
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>

#include <cstdint>

// A call that others wait for, or that waits for others; `m` is what they meet at.
#define HT_ANNOUNCE_BEFORE(result, symbol)     \
  extern "C" result __real_##symbol(void* m);  \
  extern "C" result __wrap_##symbol(void* m) { \
    __tsan_release(m);                         \
    return __real_##symbol(m);                 \
  }
#define HT_ANNOUNCE_AFTER(symbol)            \
  extern "C" void __real_##symbol(void* m);  \
  extern "C" void __wrap_##symbol(void* m) { \
    __real_##symbol(m);                      \
    __tsan_acquire(m);                       \
  }
// Gives a mutex back and takes it again.
#define HT_ANNOUNCE_WAIT(symbol, mutex)                                 \
  extern "C" bool __real_##symbol(void* a, void* b, uint64_t timeout);  \
  extern "C" bool __wrap_##symbol(void* a, void* b, uint64_t timeout) { \
    __tsan_release(mutex);                                              \
    const bool result = __real_##symbol(a, b, timeout);                 \
    __tsan_acquire(mutex);                                              \
    return result;                                                      \
  }

HT_ANNOUNCE_AFTER(_ZN4absl7debian75Mutex4LockEv)
HT_ANNOUNCE_AFTER(_ZN4absl7debian75Mutex10ReaderLockEv)
HT_ANNOUNCE_BEFORE(void, _ZN4absl7debian75Mutex6UnlockEv)
HT_ANNOUNCE_BEFORE(void, _ZN4absl7debian75Mutex12ReaderUnlockEv)
HT_ANNOUNCE_BEFORE(void, _ZN4absl7debian712Notification6NotifyEv)
HT_ANNOUNCE_AFTER(_ZNK4absl7debian712Notification19WaitForNotificationEv)
HT_ANNOUNCE_BEFORE(bool, _ZN4absl7debian715BlockingCounter14DecrementCountEv)
HT_ANNOUNCE_AFTER(_ZN4absl7debian715BlockingCounter4WaitEv)
HT_ANNOUNCE_WAIT(
    _ZN4absl7debian77CondVar10WaitCommonEPNS0_5MutexENS0_24synchronization_internal13KernelTimeoutE,
    b)
HT_ANNOUNCE_WAIT(
    _ZN4absl7debian75Mutex11AwaitCommonERKNS0_9ConditionENS0_24synchronization_internal13KernelTimeoutE,
    a)

// What libraries do on their own: counts of shared Status values, conditions that the thread which
// gives a mutex back evaluates for the one that waits, and teams of threads.
extern "C" const char* __tsan_default_suppressions() {
  return "race:absl::debian7::Status::Unref\n"
         "race:absl::debian7::status_internal::StatusRep\n"
         "race:halftone::Gate::\n"
         "race:libgomp.so\n";
}
#endif

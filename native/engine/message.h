// What is wrong with a program, as a sentence, without the standard library (this code runs in WebAssembly too).
#pragma once
#include "../ops/types.h"

namespace macl {

struct Problem {
  i32 status;       // Status of a kernel's own check, 0 where the program itself is wrong
  i32 instruction;  // −1 where no instruction is to blame
  i32 length;
  char text[244];
};

// Appends to a problem's text; what does not fit is cut off.
class Say {
 public:
  explicit Say(Problem& problem) : problem_(problem) {
    problem_.status = 0;
    problem_.instruction = -1;
    problem_.length = 0;
    problem_.text[0] = 0;
  }
  Say& operator<<(const char* text) {
    while (*text) put(*text++);
    return *this;
  }
  Say& operator<<(i64 value) {
    char digits[24];
    int n = 0;
    u64 rest = value < 0 ? 0 - static_cast<u64>(value) : static_cast<u64>(value);
    do digits[n++] = static_cast<char>('0' + rest % 10);
    while ((rest /= 10) != 0);
    if (value < 0) put('-');
    while (n > 0) put(digits[--n]);
    return *this;
  }
  Say& operator<<(i32 value) { return *this << static_cast<i64>(value); }
  // A piece of a string that may hold anything: unprintable bytes become '?'.
  Say& piece(const char* text, i64 length) {
    for (i64 i = 0; i < length && i < 64; ++i) put(text[i] >= 32 && text[i] < 127 ? text[i] : '?');
    return *this;
  }

 private:
  void put(char c) {
    if (problem_.length + 1 >= static_cast<i32>(sizeof(problem_.text))) return;
    problem_.text[problem_.length++] = c;
    problem_.text[problem_.length] = 0;
  }
  Problem& problem_;
};

inline const char* status_text(i32 status) {
  switch (status) {
    case kOk: return "ok";
    case kBadShape: return "shapes that do not fit";
    case kBadDType: return "a dtype that it does not take";
    case kBadAttr: return "an attribute that it does not take";
    case kBadVolume: return "a volume descriptor outside the store";
    case kBadLabel: return "a label outside the classes";
    case kAborted: return "aborted";
    default: return "an unknown status";
  }
}

}  // namespace macl

// SPDX-License-Identifier: Apache-2.0
// What the headers of g++ 9 to 12 call in libstdc++ and that of GCC 8 (GLIBCXX_3.4.24, all that manylinux_2_28
// promises) does not export, in terms of what both have. Linked into the libraries of a wheel, and seen by them alone.
#include <new>

#define HIDDEN extern "C" __attribute__((visibility("hidden")))

// The constructors of string streams without arguments came with GCC 9: they are those with the mode given.
constexpr int in = 8, out = 16;
extern "C" void ostringstream_of_mode(void* self, int mode) asm(
    "_ZNSt7__cxx1119basic_ostringstreamIcSt11char_traitsIcESaIcEEC1ESt13_Ios_Openmode");
HIDDEN void ostringstream(void* self) asm("_ZNSt7__cxx1119basic_ostringstreamIcSt11char_traitsIcESaIcEEC1Ev");
void ostringstream(void* self) { ostringstream_of_mode(self, out); }

extern "C" void stringstream_of_mode(void* self, int mode) asm(
    "_ZNSt7__cxx1118basic_stringstreamIcSt11char_traitsIcESaIcEEC1ESt13_Ios_Openmode");
HIDDEN void stringstream(void* self) asm("_ZNSt7__cxx1118basic_stringstreamIcSt11char_traitsIcESaIcEEC1Ev");
void stringstream(void* self) { stringstream_of_mode(self, in | out); }

// new T[n] of a size that overflows: GCC 11.
HIDDEN [[noreturn]] void bad_array_length() asm("_ZSt28__throw_bad_array_new_lengthv");
void bad_array_length() { throw std::bad_array_new_length(); }

// exception_ptr counts by functions that older libraries keep to themselves, where its copies and destructor call them.
extern "C" void exception_ptr_copy(void* self, const void* from) asm("_ZNSt15__exception_ptr13exception_ptrC1ERKS0_");
extern "C" void exception_ptr_end(void* self) asm("_ZNSt15__exception_ptr13exception_ptrD1Ev");
HIDDEN void exception_ptr_addref(void* self) asm("_ZNSt15__exception_ptr13exception_ptr9_M_addrefEv");
void exception_ptr_addref(void* self) {
  void* copy;
  exception_ptr_copy(&copy, self);
}
HIDDEN void exception_ptr_release(void** self) asm("_ZNSt15__exception_ptr13exception_ptr10_M_releaseEv");
void exception_ptr_release(void** self) {
  exception_ptr_end(self);
  *self = nullptr;
}
